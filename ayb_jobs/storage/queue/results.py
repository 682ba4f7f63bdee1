"""What handlers returned: read with the end of its job, and removed once it is old. `settling` writes it."""

from collections.abc import Sequence
from datetime import timedelta

from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.rows import Deleted, one_row

PRUNE_RESULTS = """
    WITH old AS MATERIALIZED (
        SELECT job_id
        FROM _ayb_job_results
        WHERE ended_at < now() - %(keep)s::interval
        ORDER BY ended_at
        LIMIT %(batch)s
        FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM _ayb_job_results WHERE job_id = ANY (ARRAY(SELECT job_id FROM old)) RETURNING 1
    )
    SELECT gone.rows, old.rows - gone.rows
    FROM (SELECT count(*) AS rows FROM gone) AS gone, (SELECT count(*) AS rows FROM old) AS old
"""


def prune_results(conn: Connection, *, keep: timedelta, batch: int) -> Deleted:
    """Remove up to `batch` results that are older than `keep`, fewer at the end."""
    return Deleted(*one_row(conn.execute(PRUNE_RESULTS, {"keep": keep, "batch": batch})))


FIND_OLD_RESULTS = """
    SELECT job_id::text
    FROM _ayb_job_results
    WHERE ended_at < now() - %(keep)s::interval AND (%(after)s::uuid IS NULL OR job_id > %(after)s::uuid)
    ORDER BY job_id
    LIMIT %(limit)s
"""


def find_old_results(conn: Connection, *, keep: timedelta, after: str | None = None, limit: int = 1000) -> list[str]:
    """Return up to `limit` ids of jobs whose results are older than `keep`, in their order, behind `after`."""
    values = {"keep": keep, "after": after, "limit": limit}
    return [job_id for (job_id,) in conn.execute(FIND_OLD_RESULTS, values, prepare=False)]


DELETE_RESULTS = """
    WITH old AS MATERIALIZED (
        SELECT job_id FROM _ayb_job_results WHERE job_id = ANY (%(ids)s::uuid[]) FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM _ayb_job_results WHERE job_id = ANY (ARRAY(SELECT job_id FROM old)) RETURNING 1
    )
    SELECT gone.rows, old.rows - gone.rows
    FROM (SELECT count(*) AS rows FROM gone) AS gone, (SELECT count(*) AS rows FROM old) AS old
"""


def delete_results(conn: Connection, ids: Sequence[str]) -> Deleted:
    """Remove the results of these jobs, but for those that somebody has locked."""
    return Deleted(*one_row(conn.execute(DELETE_RESULTS, {"ids": list(ids)}, prepare=False)))
