"""What a handler can rely on: its payload, its log, its deadline, being told to stop, its connection, its lease."""

import threading
import time
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from psycopg import sql
from structlog.testing import LogCapture

from ayb_jobs.errors import InvalidInput, LeaseLost, PayloadUndecodable, Stopped
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection
from tests.handlers.conftest import Lease


def test_it_tells_about_the_job(lease: Lease) -> None:
    context = lease("send_mail", {"to": ["a", None]}, scheduled_for=datetime(2026, 1, 2, 3, tzinfo=UTC))
    assert context.job.type == "send_mail"
    assert context.attempt == 1
    assert context.payload == {"to": ["a", None]}
    assert context.payload is context.payload
    assert context.scheduled_for == datetime(2026, 1, 2, 3, tzinfo=UTC)
    assert context.job.id in repr(context)


def test_a_payload_that_python_cannot_hold_says_so(lease: Lease) -> None:
    context = lease(payload=sql.SQL("('{\"n\": ' || repeat('9', 5000) || '}')::jsonb"))
    with pytest.raises(PayloadUndecodable, match="cannot be decoded"):
        _ = context.payload


def test_log_lines_carry_the_job(lease: Lease, logs: LogCapture) -> None:
    context = lease("send_mail")
    context.log.info("mail.sent", to="a")
    assert logs.entries == [
        {
            "event": "mail.sent",
            "log_level": "info",
            "to": "a",
            "job_id": context.job.id,
            "job_type": "send_mail",
            "attempt": 1,
        }
    ]


def test_without_a_timeout_there_is_no_deadline(lease: Lease) -> None:
    context = lease()
    assert context.deadline is None
    assert context.remaining_s() is None


def test_what_is_left_of_the_timeout_never_falls_below_zero(lease: Lease) -> None:
    left_s = lease(deadline=time.monotonic() + 60).remaining_s()
    assert left_s is not None
    assert 0 < left_s <= 60
    assert lease(deadline=time.monotonic() - 60).remaining_s() == 0


@pytest.mark.parametrize("looked_before", ["before", "after"])
def test_it_learns_that_it_should_stop(looked_before: str, lease: Lease) -> None:
    context = lease()
    context.check()
    if looked_before == "before":
        assert not context.stopping.is_set()
    context.stop("shutdown")
    assert context.stopping.wait(0)
    assert context.stop_reason == "shutdown"


@pytest.mark.parametrize(
    ("reasons", "error"),
    [
        (["shutdown"], "shutdown"),
        (["timeout"], "timeout"),
        (["timeout", "shutdown"], "timeout"),
        (["lease_lost"], None),
        (["shutdown", "lease_lost"], None),
        (["lease_lost", "timeout"], None),
    ],
)
def test_check_raises_for_the_first_reason_unless_the_lease_is_lost(
    reasons: list[Any], error: str | None, lease: Lease
) -> None:
    context = lease()
    for reason in reasons:
        context.stop(reason)
    with pytest.raises(LeaseLost if error is None else Stopped, match=error or "lease"):
        context.check()


def test_looking_and_telling_at_once_never_misses(lease: Lease) -> None:
    context = lease()
    for _ in range(500):
        context._stopping, context.stop_reason = None, None
        barrier = threading.Barrier(2)

        def tell(barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            context.stop("shutdown")

        telling = threading.Thread(target=tell)
        telling.start()
        barrier.wait()
        assert context.stopping.wait(10)
        telling.join()


def insert_and_raise(lent: Connection) -> None:
    lent.execute("INSERT INTO things VALUES (2)")
    raise RuntimeError


def test_a_connection_is_one_transaction(conn: Connection, lease: Lease) -> None:
    conn.execute("CREATE TABLE things (id int)")
    context = lease()
    with context.connection() as lent:
        lent.execute("INSERT INTO things VALUES (1)")
    with pytest.raises(RuntimeError), context.connection() as lent:
        insert_and_raise(lent)
    assert conn.execute("SELECT id FROM things").fetchall() == [(1,)]


def test_statements_may_take_what_is_left_of_the_timeout(lease: Lease) -> None:
    with lease(deadline=time.monotonic() + 60).connection() as lent:
        [(milliseconds,)] = lent.execute("SELECT setting::int FROM pg_settings WHERE name = 'statement_timeout'")
        assert 0 < milliseconds <= 60_000
    with lease().connection() as lent:
        assert lent.execute("SHOW statement_timeout").fetchone() == ("0",)
    with lease(deadline=time.monotonic() + 100 * 86400).connection() as lent:
        [(milliseconds,)] = lent.execute("SELECT setting::int FROM pg_settings WHERE name = 'statement_timeout'")
        assert milliseconds == 2**31 - 1  # what the setting holds
    with pytest.raises(psycopg.errors.QueryCanceled), lease(deadline=0.0).connection() as lent:
        lent.execute("SELECT pg_sleep(60)")


def test_a_connection_goes_back_as_it_came(db: Database, lease: Lease) -> None:
    with db.work() as lent:
        before = lent.execute("SELECT pg_backend_pid(), current_setting('statement_timeout')").fetchone()
    with lease(deadline=time.monotonic() + 60).connection() as lent:
        assert lent.execute("SELECT pg_backend_pid()").fetchone() == (before or ())[:1]
    with db.work() as lent:
        assert lent.execute("SELECT pg_backend_pid(), current_setting('statement_timeout')").fetchone() == before


def test_progress_is_seen_at_once_and_extends_the_lease(conn: Connection, lease: Lease) -> None:
    context = lease()
    conn.execute("UPDATE _ayb_jobs SET lease_until = now() + interval '1 second'")
    with context.connection():
        context.progress(3, "half way")
        assert conn.execute(
            "SELECT progress, lease_until > now() + interval '50 seconds' FROM _ayb_jobs"
        ).fetchall() == [({"records_processed": 3, "message": "half way"}, True)]
    context.progress(message="nearly")
    assert context.records_processed == 3
    assert conn.execute("SELECT progress FROM _ayb_jobs").fetchall() == [
        ({"records_processed": 3, "message": "nearly"},)
    ]


def test_progress_of_a_lost_lease_changes_nothing_and_stops_the_handler(conn: Connection, lease: Lease) -> None:
    context = lease()
    conn.execute("UPDATE _ayb_jobs SET lease_id = gen_random_uuid()")
    with pytest.raises(LeaseLost):
        context.progress(3)
    assert context.stop_reason == "lease_lost"
    assert conn.execute("SELECT progress FROM _ayb_jobs").fetchall() == [(None,)]


def test_progress_that_cannot_be_stored_is_refused(lease: Lease) -> None:
    with pytest.raises(InvalidInput):
        lease().progress(1, "a\x00b")
