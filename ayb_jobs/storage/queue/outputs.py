"""What commands of jobs wrote: the end of it, attempt by attempt."""

from collections.abc import Sequence
from datetime import timedelta

from psycopg.rows import class_row

from ayb_jobs.errors import NotFound
from ayb_jobs.model.execution import Output
from ayb_jobs.model.job import LeasedJob
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.rows import Deleted, one_row

# Fenced by the lease, as every write about an attempt. An answer that was lost is repeated.
KEEP_OUTPUT = """
    INSERT INTO _ayb_job_outputs (lease_id, job_id, attempt, output)
    SELECT %(lease_id)s, id, %(attempt)s, %(output)s
    FROM _ayb_jobs
    WHERE id = %(id)s AND coalesce(lease_id, canceling_lease_id) = %(lease_id)s
    ON CONFLICT (lease_id) DO UPDATE SET output = excluded.output
"""


def keep_output(conn: Connection, job: LeasedJob, output: str) -> None:
    """Keep what an attempt's command wrote. Nothing is kept if the lease is lost."""
    values = {"id": job.id, "lease_id": job.lease_id, "attempt": job.attempt, "output": output}
    conn.execute(KEEP_OUTPUT, values)


READ_OUTPUT = """
    SELECT attempt, output
    FROM _ayb_job_outputs
    WHERE job_id = %(job_id)s AND (%(attempt)s::int IS NULL OR attempt = %(attempt)s::int)
    ORDER BY written_at DESC
    LIMIT 1
"""


def read_output(conn: Connection, job_id: str, *, attempt: int | None = None) -> Output:
    """Return what the newest attempt of a job wrote, or the newest of that number; raises `NotFound`."""
    values = {"job_id": job_id, "attempt": attempt}
    with conn.cursor(row_factory=class_row(Output)) as cursor:
        found = cursor.execute(READ_OUTPUT, values, prepare=False).fetchone()
    if found is None:
        which = "" if attempt is None else f" of attempt {attempt}"
        raise NotFound(f"job {job_id} has no output{which} on record")
    return found


PRUNE_OUTPUTS = """
    WITH old AS MATERIALIZED (
        SELECT lease_id FROM _ayb_job_outputs
        WHERE written_at < now() - %(keep)s
        ORDER BY written_at
        LIMIT %(batch)s
        FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM _ayb_job_outputs WHERE lease_id = ANY (ARRAY(SELECT lease_id FROM old)) RETURNING 1
    )
    SELECT gone.rows, old.rows - gone.rows
    FROM (SELECT count(*) AS rows FROM gone) AS gone, (SELECT count(*) AS rows FROM old) AS old
"""


def prune_outputs(conn: Connection, *, keep: timedelta, batch: int = 1000) -> Deleted:
    """Remove up to `batch` outputs written longer ago than `keep`, fewer at the end."""
    return Deleted(*one_row(conn.execute(PRUNE_OUTPUTS, {"keep": keep, "batch": batch})))


FIND_OLD_OUTPUTS = """
    SELECT lease_id::text
    FROM _ayb_job_outputs
    WHERE written_at < now() - %(keep)s::interval AND (%(after)s::uuid IS NULL OR lease_id > %(after)s::uuid)
    ORDER BY lease_id
    LIMIT %(limit)s
"""


def find_old_outputs(conn: Connection, *, keep: timedelta, after: str | None = None, limit: int = 1000) -> list[str]:
    """Return up to `limit` keys of outputs written longer ago than `keep`, in their order, behind `after`."""
    values = {"keep": keep, "after": after, "limit": limit}
    return [lease_id for (lease_id,) in conn.execute(FIND_OLD_OUTPUTS, values, prepare=False)]


DELETE_OUTPUTS = """
    WITH old AS MATERIALIZED (
        SELECT lease_id FROM _ayb_job_outputs WHERE lease_id = ANY (%(ids)s::uuid[]) FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM _ayb_job_outputs WHERE lease_id = ANY (ARRAY(SELECT lease_id FROM old)) RETURNING 1
    )
    SELECT gone.rows, old.rows - gone.rows
    FROM (SELECT count(*) AS rows FROM gone) AS gone, (SELECT count(*) AS rows FROM old) AS old
"""


def delete_outputs(conn: Connection, ids: Sequence[str]) -> Deleted:
    """Remove these outputs, but for those that somebody has locked."""
    return Deleted(*one_row(conn.execute(DELETE_OUTPUTS, {"ids": list(ids)}, prepare=False)))
