"""A worker that knows nothing but the three SQL functions."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from psycopg.rows import class_row

from ayb_jobs.storage.database import Connection


class Leased(NamedTuple):
    """A row of `ayb_jobs_lease`."""

    id: str
    lease_id: str
    type: str
    payload: str
    queue: str
    priority: int
    attempt: int
    max_attempts: int
    run_at: Any
    scheduled_for: Any
    timeout_s: float | None
    traceparent: str | None


LEASE = """
    SELECT id::text, lease_id::text, type, payload, queue, priority, attempt, max_attempts, run_at, scheduled_for, timeout_s,
        traceparent
    FROM ayb_jobs.ayb_jobs_lease(%(worker)s, %(types)s::text[], %(queues)s::text[], %(n)s, %(lease_s)s)
"""


def lease(
    conn: Connection,
    *types: str,
    worker: str = "w",
    queues: Sequence[str] = ("default",),
    n: int = 100,
    lease_s: float = 60,
) -> list[Leased]:
    values = {
        "worker": worker,
        "types": list(types or ("test",)),
        "queues": list(queues),
        "n": n,
        "lease_s": lease_s,
    }
    with conn.cursor(row_factory=class_row(Leased)) as cursor:
        return cursor.execute(LEASE.encode(), values).fetchall()


EXTEND = "SELECT lease_id::text, became FROM ayb_jobs.ayb_jobs_extend(%s::uuid[], %s::uuid[], %s)"


def extend(conn: Connection, *leases: tuple[str, str], lease_s: float = 60) -> dict[str, str]:
    """Return what became of leases, by their ids."""
    ids, lease_ids = [job_id for job_id, _ in leases], [lease_id for _, lease_id in leases]
    return dict(conn.execute(EXTEND.encode(), (ids, lease_ids, lease_s)).fetchall())


def settle(conn: Connection, job_id: str, lease_id: str, outcome: str = "completed", **given: object) -> str:
    """Settle an attempt, and return the state of its job."""
    named = ", ".join(f"{name} => %({name})s" for name in given)
    call = f"SELECT ayb_jobs.ayb_jobs_settle(%(id)s, %(lease_id)s, %(outcome)s{', ' if named else ''}{named})"
    row = conn.execute(call.encode(), {"id": job_id, "lease_id": lease_id, "outcome": outcome, **given}).fetchone()
    assert row is not None
    return str(row[0])
