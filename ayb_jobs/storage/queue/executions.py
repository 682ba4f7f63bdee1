"""The execution log: one row for each attempt that ended, and the attempts that run now."""

from collections.abc import Sequence
from typing import Any

from psycopg.rows import kwargs_row

from ayb_jobs.model.execution import Execution
from ayb_jobs.model.job import Lease
from ayb_jobs.model.lifecycle import Outcome
from ayb_jobs.storage.database import Connection

# Of so many attempts those are shown that failed; another look goes on behind them.
LOOK = 20_000

# Each half walks an index of its own from its newest end, so that no more than twice the limit is read.
LIST_EXECUTIONS = """
    (
        SELECT id, job_id, job_type, schedule_id, attempt, worker_id, outcome,
            CASE
                WHEN octet_length(error) <= 17000 THEN error
                ELSE left(error, 17000) || ' … cut: it has ' || octet_length(error) || ' bytes'
            END AS error,
            records_processed, started_at, ended_at
        FROM _ayb_job_executions
        WHERE (%(job_id)s::uuid IS NULL OR job_id = %(job_id)s::uuid)
            AND (%(job_type)s::text IS NULL OR job_type = %(job_type)s::text)
            AND (%(before)s::bigint IS NULL OR id < %(before)s::bigint)
            AND (%(down_to)s::bigint IS NULL OR id >= %(down_to)s::bigint)
            AND (NOT %(only_failures)s OR outcome NOT IN ('completed', 'snoozed'))
        ORDER BY id DESC
        LIMIT %(limit)s
    )
    UNION ALL
    (
        SELECT execution_id, id, type, schedule_id, attempts, worker_id, NULL, NULL, NULL, last_run_at, NULL
        FROM _ayb_jobs
        WHERE state = 'running'
            AND execution_id IS NOT NULL AND last_run_at IS NOT NULL
            AND (%(job_id)s::uuid IS NULL OR id = %(job_id)s::uuid)
            AND (%(job_type)s::text IS NULL OR type = %(job_type)s::text)
            AND (%(before)s::bigint IS NULL OR execution_id < %(before)s::bigint)
            AND NOT %(only_failures)s
        ORDER BY execution_id DESC
        LIMIT %(limit)s
    )
    ORDER BY 1 DESC
    LIMIT %(limit)s
"""


def list_executions(
    conn: Connection,
    *,
    job_id: str | None = None,
    job_type: str | None = None,
    only_failures: bool = False,
    before: int | None = None,
    down_to: int | None = None,
    limit: int = 100,
) -> list[Execution]:
    """Return up to `limit` attempts, running ones among them, the newest first; `before` continues after an id.

    Attempts that have ended are looked for down to the number `down_to`.

    Planned anew for each call: a plan that fits any filter uses the index of none.
    """
    values = {
        "job_id": job_id,
        "job_type": job_type,
        "only_failures": only_failures,
        "before": before,
        "down_to": down_to,
        "limit": limit,
    }
    with conn.cursor(row_factory=kwargs_row(as_execution)) as cursor:
        return cursor.execute(LIST_EXECUTIONS, values, prepare=False).fetchall()


FIND_LOOK_END = """
    SELECT id
    FROM _ayb_job_executions
    WHERE (%(job_type)s::text IS NULL OR job_type = %(job_type)s::text)
        AND (%(before)s::bigint IS NULL OR id < %(before)s::bigint)
    ORDER BY id DESC
    OFFSET %(look)s - 1
    LIMIT 1
"""


def find_look_end(
    conn: Connection, *, job_type: str | None = None, before: int | None = None, look: int = LOOK
) -> int | None:
    """Return the number of the attempt at which a look at the `look` newest ends; None if there are fewer."""
    values = {"job_type": job_type, "before": before, "look": look}
    row = conn.execute(FIND_LOOK_END, values, prepare=False).fetchone()
    return None if row is None else int(row[0])


def as_execution(*, outcome: str | None, **columns: Any) -> Execution:
    """Return a row of `LIST_EXECUTIONS` as an attempt."""
    return Execution(outcome=None if outcome is None else Outcome(outcome), **columns)


# Numbers from 2^62 on are nobody's: plain SQL may have written one at the very end, behind which none is left.
IDS_BEHIND = """
    SELECT latest.id, sequence.last_value
    FROM (SELECT max(id) AS id FROM _ayb_job_executions WHERE id < 4611686018427387904) AS latest,
        _ayb_job_execution_ids AS sequence
    WHERE latest.id > sequence.last_value
"""


def ids_behind(conn: Connection) -> tuple[int, int] | None:
    """Return the highest number in the log and where the sequence stands, if that is behind; else None."""
    row = conn.execute(IDS_BEHIND).fetchone()
    return (int(row[0]), int(row[1])) if row else None


# One at a time, so that none sets the sequence back behind what was drawn since another had set it.
LOCK_EXECUTION_IDS = "SELECT pg_advisory_xact_lock(hashtextextended('_ayb_job_execution_ids', 0))"
CATCH_UP_EXECUTION_IDS = """
    SELECT setval('_ayb_job_execution_ids', latest.id + 1)
    FROM (SELECT max(id) AS id FROM _ayb_job_executions WHERE id < 4611686018427387904) AS latest,
        _ayb_job_execution_ids AS sequence
    WHERE latest.id > sequence.last_value
"""


def catch_up_execution_ids(conn: Connection) -> None:
    """Let the numbers of attempts go on behind the highest in the log.

    A restore of the rows alone, or logical replication, leaves the sequence behind them; each attempt would then end
    under a number that is taken.
    """
    if ids_behind(conn) is None:
        return
    with conn.transaction():
        conn.execute(LOCK_EXECUTION_IDS)
        conn.execute(CATCH_UP_EXECUTION_IDS)


RENUMBER_ATTEMPTS = """
    UPDATE _ayb_jobs AS job
    SET execution_id = nextval('_ayb_job_execution_ids')
    FROM unnest(%(ids)s::uuid[], %(lease_ids)s::uuid[]) AS held (id, lease_id)
    WHERE job.id = ANY (%(ids)s::uuid[]) AND job.id = held.id AND job.lease_id = held.lease_id
        AND (
            job.execution_id IS NULL
            OR EXISTS (SELECT FROM _ayb_job_executions AS taken WHERE taken.id = job.execution_id)
        )
"""


def renumber_attempts(conn: Connection, leases: Sequence[Lease]) -> None:
    """Give new numbers to those of these running attempts whose number is taken in the log, behind the highest there.

    For whoever is told by `takes_a_number` that an attempt could not be settled.
    """
    catch_up_execution_ids(conn)
    values = {"ids": [lease.job_id for lease in leases], "lease_ids": [lease.lease_id for lease in leases]}
    conn.execute(RENUMBER_ATTEMPTS, values, prepare=False)


PUT_OFF = """
    WITH ended AS MATERIALIZED (
        SELECT id, outcome, started_at FROM _ayb_job_executions WHERE job_id = %(job_id)s::uuid
    )
    SELECT extract(epoch FROM now() - min(started_at) FILTER (WHERE isfinite(started_at)))::float8
    FROM ended
    WHERE id > coalesce((SELECT max(id) FROM ended WHERE outcome <> 'snoozed'), 0)
"""


def put_off_s(conn: Connection, job_id: str) -> float:
    """Return for how many seconds a job has been put off by one snooze after the other; 0 if its last attempt failed.

    By the database's clock.
    """
    row = conn.execute(PUT_OFF, {"job_id": job_id}).fetchone()
    return float(row[0] or 0) if row else 0.0
