"""What the shop does outside of its requests."""

from typing import Any

import psycopg

from ayb_jobs import Cancel, Discard, JobContext, Registry, Snooze, enqueue

registry = Registry()

PAYMENT_MAY_TAKE_S = 60


def enqueue_receipt(conn: psycopg.Connection[Any], order_id: int) -> str:
    """Have a receipt sent once the caller's transaction commits; asked twice for one order, it is sent once."""
    job = registry.new_job("send_receipt", {"order_id": order_id}, idempotency_key=f"receipt-{order_id}")
    return enqueue(conn, job).id


@registry.handler("send_receipt", max_attempts=5, timeout_s=30)
def send_receipt(ctx: JobContext) -> int | Snooze | Cancel:
    """Send the receipt of an order that is paid."""
    order_id = ctx.payload.get("order_id")
    if not isinstance(order_id, int):
        raise Discard("the payload has no order_id")
    with ctx.connection() as conn:
        order = conn.execute("SELECT email, paid_at, canceled_at FROM orders WHERE id = %s", (order_id,)).fetchone()
        if order is None:
            raise Discard(f"there is no order {order_id}")
        email, paid_at, canceled_at = order
        if canceled_at is not None:
            return Cancel("the order was canceled")
        if paid_at is None:
            return Snooze(PAYMENT_MAY_TAKE_S)
        # A job may run twice; the second time changes nothing.
        conn.execute("INSERT INTO receipts VALUES (%s, %s) ON CONFLICT DO NOTHING", (order_id, email))
    ctx.log.info("receipt.sent", order_id=order_id)
    return 1


@registry.handler("resend_receipts", timeout_s=3600)
def resend_receipts(ctx: JobContext) -> int:
    """Have every receipt sent again, a hundred at a time."""
    last, sent = ctx.payload.get("after", 0), 0
    while True:
        ctx.check()  # ends here when the daemon stops; the job then starts anew, on this daemon or on another
        with ctx.connection() as conn:
            orders = conn.execute(
                "SELECT order_id FROM receipts WHERE order_id > %s ORDER BY order_id LIMIT 100", (last,)
            ).fetchall()
            for (order_id,) in orders:
                enqueue(conn, registry.new_job("send_receipt", {"order_id": order_id}))
        if not orders:
            return sent
        last, sent = orders[-1][0], sent + len(orders)
        ctx.progress(sent, f"up to order {last}")
