"""What workers by SQL were refused: removed once no worker comes back for it, as each would within a minute."""

from collections.abc import Sequence
from datetime import timedelta

from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.rows import Deleted, one_row

# A clock that was set back leaves times that lie ahead of all that a worker writes.
FIND_OLD_REFUSALS = """
    SELECT job_id
    FROM _ayb_job_refusals
    WHERE (retry_at < now() - %(keep)s::interval OR retry_at > now() + %(keep)s::interval)
        AND (%(after)s::uuid IS NULL OR job_id > %(after)s::uuid)
    ORDER BY job_id
    LIMIT %(limit)s
"""


def find_old_refusals(conn: Connection, *, keep: timedelta, after: str | None = None, limit: int = 1000) -> list[str]:
    """Return up to `limit` jobs, behind `after`, of which a refusal is left that is further than `keep` from now."""
    values = {"keep": keep, "after": after, "limit": limit}
    return [job_id for (job_id,) in conn.execute(FIND_OLD_REFUSALS, values, prepare=False)]


# A worker may have been refused anew since the row was found.
DELETE_REFUSALS = """
    WITH old AS MATERIALIZED (
        SELECT job_id
        FROM _ayb_job_refusals
        WHERE job_id = ANY (%(ids)s::uuid[])
            AND retry_at NOT BETWEEN now() - interval '10 minutes' AND now() + interval '2 minutes'
        FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM _ayb_job_refusals WHERE job_id = ANY (ARRAY(SELECT job_id FROM old)) RETURNING 1
    )
    SELECT gone.rows, old.rows - gone.rows
    FROM (SELECT count(*) AS rows FROM gone) AS gone, (SELECT count(*) AS rows FROM old) AS old
"""


def delete_refusals(conn: Connection, job_ids: Sequence[str]) -> Deleted:
    """Remove what is left of refusals of these jobs, but for what workers have written meanwhile."""
    return Deleted(*one_row(conn.execute(DELETE_REFUSALS, {"ids": list(job_ids)}, prepare=False)))
