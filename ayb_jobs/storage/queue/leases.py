"""Leases that are held: extend them, release them, find those whose answer was lost, report progress under one.

Every write is fenced by `(id, lease_id)` alone, as in `leasing`.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import LiteralString, NamedTuple

from ayb_jobs.model.job import Lease
from ayb_jobs.storage.arrays import plain_array
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.faults import whole_rows

# `held` are those of the leases asked for that are still held, and `free` the ones of these whose rows nobody else has
# locked: a locked one is passed over, so that it keeps no other waiting.
EXTEND_LEASES = """
    WITH held AS MATERIALIZED (
        SELECT job.id, job.lease_id
        FROM _ayb_jobs AS job
        JOIN unnest(%(ids)s::uuid[], %(lease_ids)s::uuid[]) AS asked (id, lease_id)
            ON asked.id = job.id AND asked.lease_id = CASE job.state WHEN 'running' THEN job.lease_id END
        WHERE job.id = ANY (%(ids)s::uuid[])
    ), free AS MATERIALIZED (
        SELECT job.id, job.lease_id
        FROM _ayb_jobs AS job
        JOIN held ON held.id = job.id AND held.lease_id = CASE job.state WHEN 'running' THEN job.lease_id END
        FOR NO KEY UPDATE OF job SKIP LOCKED
    ), extended AS (
        UPDATE _ayb_jobs AS job
        SET lease_until = now() + %(lease_s)s * interval '1 second'
        FROM free
        WHERE job.id = free.id AND job.lease_id = free.lease_id
        RETURNING job.id,
            CASE
                WHEN job.state = 'running' AND job.lease_id = free.lease_id
                    THEN job.lease_until = now() + %(lease_s)s * interval '1 second'
                ELSE ('a trigger kept a part of job ' || job.id::text)::boolean
            END AS is_done
    )
    SELECT lease_id, id IN (SELECT id FROM extended WHERE is_done), id IN (SELECT id FROM free) FROM held
"""


class Touched(NamedTuple):
    """What became of leases, by their ids. Those in none of these are lost.

    `done` were written. `locked` are still held, and somebody else has their rows locked. `unchanged` are still held,
    and a trigger kept their rows as they were. `canceling` belong to jobs that are to end canceled.
    """

    done: AbstractSet[str]
    locked: AbstractSet[str] = frozenset()
    unchanged: AbstractSet[str] = frozenset()
    canceling: AbstractSet[str] = frozenset()

    def others(self, leases: Sequence[Lease]) -> list[Lease]:
        """Return those of the leases that are in none of these."""
        known = self.done | self.locked | self.unchanged | self.canceling
        return [lease for lease in leases if lease.lease_id not in known]


def extend_leases(conn: Connection, leases: Sequence[Lease], *, lease_s: float) -> Touched:
    """Let these leases run `lease_s` seconds from now, without waiting for any."""
    return touch(conn, EXTEND_LEASES, leases, {"lease_s": lease_s})


# One notification, whatever the number of rows; none while the server's queue of them is half full (`MAY_NOTIFY`).
RELEASE_JOBS = """
    WITH held AS MATERIALIZED (
        SELECT job.id, job.lease_id
        FROM _ayb_jobs AS job
        JOIN unnest(%(ids)s::uuid[], %(lease_ids)s::uuid[]) AS asked (id, lease_id)
            ON asked.id = job.id AND asked.lease_id = CASE job.state WHEN 'running' THEN job.lease_id END
        WHERE job.id = ANY (%(ids)s::uuid[])
    ), free AS MATERIALIZED (
        SELECT job.id, job.lease_id
        FROM _ayb_jobs AS job
        JOIN held ON held.id = job.id AND held.lease_id = CASE job.state WHEN 'running' THEN job.lease_id END
        FOR NO KEY UPDATE OF job SKIP LOCKED
    ), released AS (
        UPDATE _ayb_jobs AS job
        SET state = 'queued', attempts = greatest(job.attempts - 1, 0), lease_id = NULL, lease_until = NULL,
            worker_id = NULL, updated_at = now()
        FROM free
        WHERE job.id = free.id AND job.lease_id = free.lease_id
        RETURNING job.id,
            CASE
                WHEN job.state = 'queued' AND job.lease_id IS NULL THEN true
                WHEN job.state = 'running' AND job.lease_id = free.lease_id AND job.lease_until IS NOT NULL THEN false
                ELSE ('a trigger kept a part of job ' || job.id::text)::boolean
            END AS is_done
    ), told AS MATERIALIZED (
        SELECT CASE WHEN count(*) > 0 AND pg_notification_queue_usage() < 0.5 THEN pg_notify('ayb_jobs', '')::text END
        FROM released
    )
    SELECT lease_id, id IN (SELECT id FROM released WHERE is_done), id IN (SELECT id FROM free) FROM held CROSS JOIN told
"""


def release_jobs(conn: Connection, leases: Sequence[Lease]) -> Touched:
    """Give these jobs back to the queue with their attempt, without waiting for any.

    Only for jobs that no thread runs: two would run at once.
    """
    return touch(conn, RELEASE_JOBS, leases, {})


def touch(conn: Connection, statement: LiteralString, leases: Sequence[Lease], values: dict[str, object]) -> Touched:
    """Run a statement that answers what became of leases; raise `RowUnchanged` if a trigger wrote a part of it only."""
    if not leases:
        return Touched(frozenset())
    values = {
        "ids": plain_array(lease.job_id for lease in leases),
        "lease_ids": plain_array(lease.lease_id for lease in leases),
        **values,
    }
    with whole_rows():
        rows = conn.execute(statement, values).fetchall()
    return Touched(
        done={lease_id for lease_id, is_done, _ in rows if is_done},
        locked={lease_id for lease_id, _, is_free in rows if not is_free},
        unchanged={lease_id for lease_id, is_done, is_free in rows if is_free and not is_done},
    )


FIND_ORPHANS = """
    SELECT id::text, lease_id::text
    FROM _ayb_jobs
    WHERE state = 'running' AND worker_id = %(worker_id)s AND lease_id IS NOT NULL
        AND lease_id <> ALL (%(lease_ids)s::uuid[])
"""


def find_orphans(conn: Connection, *, worker_id: str, held: Sequence[Lease]) -> list[Lease]:
    """Return what is leased to this worker but not among what it holds.

    To be called by the one thread that leases for this worker, after a leasing whose answer was lost.
    """
    values = {"worker_id": worker_id, "lease_ids": plain_array(lease.lease_id for lease in held)}
    return [Lease(*row) for row in conn.execute(FIND_ORPHANS, values).fetchall()]


REPORT_PROGRESS = """
    UPDATE _ayb_jobs
    SET progress = %(progress)s::jsonb, lease_until = now() + %(lease_s)s * interval '1 second', updated_at = now()
    WHERE id = %(id)s AND lease_id = %(lease_id)s AND (state = 'running') IS NOT FALSE
    RETURNING id
"""


def report_progress(conn: Connection, lease: Lease, progress: str, *, lease_s: float) -> bool:
    """Write a running job's progress (JSON text) and extend its lease; False if the lease is lost."""
    row = conn.execute(
        REPORT_PROGRESS,
        {"id": lease.job_id, "lease_id": lease.lease_id, "progress": progress, "lease_s": lease_s},
    ).fetchone()
    return row is not None
