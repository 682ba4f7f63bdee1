"""Put jobs under their limits that are known by their ids, and let go what waits under a limit that was removed."""

from collections.abc import Sequence
from typing import NamedTuple

from ayb_jobs.storage.arrays import plain_array
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.rows import one_row

# The step `put_under` of `LEASE_BESIDE_LIMITS`, for jobs that are known already. What runs of a type when it becomes
# limited counts as well: it has an old number, so the limit's mark goes back with it, behind the limit's lock.
PUT_UNDER = """
    WITH limited_types AS MATERIALIZED (
        SELECT type, limits.name, limits.key_field
        FROM _ayb_job_limits AS limits CROSS JOIN unnest(limits.types) AS type
    ), due AS MATERIALIZED (
        SELECT id, type, state
        FROM _ayb_jobs
        WHERE id = ANY (%(ids)s::uuid[]) AND state IN ('queued', 'running') AND priority <= 4
            AND type = ANY (ARRAY(SELECT type FROM limited_types))
        FOR NO KEY UPDATE SKIP LOCKED
    ), counted AS (
        UPDATE _ayb_job_limits SET running_from = 0
        WHERE name = ANY (ARRAY(
            SELECT limited_types.name FROM due JOIN limited_types ON limited_types.type = due.type
            WHERE due.state = 'running'))
    )
    UPDATE _ayb_jobs AS job
    SET priority = job.priority + 4, limited_by = limited_types.name, limited_key = key.short, updated_at = now()
    FROM due JOIN limited_types ON limited_types.type = due.type, LATERAL (
        SELECT CASE WHEN length(long) <= 200 THEN long ELSE encode(sha256(convert_to(long, 'UTF8')), 'hex') END AS short
        FROM (
            SELECT coalesce(
                keyed.limit_key,
                CASE WHEN jsonb_typeof(keyed.payload -> limited_types.key_field) NOT IN ('array', 'object')
                    THEN keyed.payload ->> limited_types.key_field END,
                '') AS long
            FROM _ayb_jobs AS keyed WHERE keyed.id = due.id
        ) AS given
    ) AS key
    WHERE job.id = ANY (ARRAY(SELECT id FROM due)) AND job.id = due.id
"""


FIND_KEPT_BESIDE = """
    SELECT id::text
    FROM _ayb_jobs
    WHERE id = ANY (%(ids)s::uuid[]) AND state IN ('queued', 'running') AND priority <= 4
        AND type = ANY (ARRAY(SELECT unnest(types) FROM _ayb_job_limits))
    FOR NO KEY UPDATE SKIP LOCKED
"""


def put_under(conn: Connection, ids: Sequence[str]) -> list[str]:
    """Put those of these jobs under their limits that are of limited types, but for those that somebody has locked.

    Return the ids of those that a trigger kept where they are.
    """
    values = {"ids": plain_array(ids)}
    conn.execute(PUT_UNDER, values, prepare=False)
    return [row[0] for row in conn.execute(FIND_KEPT_BESIDE, values, prepare=False)]


FIND_RUNNING_BESIDE = """
    SELECT id::text
    FROM _ayb_jobs
    WHERE state = 'running' AND worker_id = %(worker_id)s AND priority <= 4
        AND type = ANY (ARRAY(SELECT unnest(types) FROM _ayb_job_limits))
"""


def find_running_beside(conn: Connection, *, worker_id: str) -> list[str]:
    """Return the ids of the jobs of limited types that a daemon runs and that do not count."""
    return [row[0] for row in conn.execute(FIND_RUNNING_BESIDE, {"worker_id": worker_id}, prepare=False)]


FIND_REMOVED = """
    SELECT id::text
    FROM _ayb_jobs
    WHERE state = 'queued' AND limited_by = ANY (%(names)s::text[]) AND id <> ALL (%(aside)s::uuid[])
    ORDER BY limited_by
    LIMIT %(limit)s
"""


def find_removed(conn: Connection, names: Sequence[str], *, aside: Sequence[str] = (), limit: int = 1000) -> list[str]:
    """Return the ids of jobs that wait under limits of these names."""
    values = {"names": list(names), "aside": plain_array(aside), "limit": limit}
    return [row[0] for row in conn.execute(FIND_REMOVED, values, prepare=False)]


# What waits under a limit that was removed goes back to the lanes of plain jobs.
FREE_REMOVED = """
    WITH met AS MATERIALIZED (
        SELECT id FROM _ayb_jobs
        WHERE id = ANY (%(ids)s::uuid[]) AND state = 'queued' AND limited_by NOT IN (SELECT name FROM _ayb_job_limits)
        FOR NO KEY UPDATE SKIP LOCKED
    ), freed AS (
        UPDATE _ayb_jobs
        SET priority = CASE WHEN priority > 4 THEN priority - 4 ELSE priority END, limited_by = NULL, limited_key = NULL,
            updated_at = now()
        WHERE id = ANY (ARRAY(SELECT id FROM met))
        RETURNING CASE WHEN limited_by IS NULL THEN id END AS id
    )
    SELECT (SELECT count(id) FROM freed),
        ARRAY(SELECT id::text FROM met WHERE id <> ALL (ARRAY(SELECT id FROM freed WHERE id IS NOT NULL)))
"""


class Freed(NamedTuple):
    """How many jobs were freed, and those that a trigger kept under their limit, without an error."""

    jobs: int
    kept: Sequence[str]


def free_removed(conn: Connection, ids: Sequence[str]) -> Freed:
    """Let those of these jobs go that wait under a limit that no longer is, but for those that somebody has locked."""
    return Freed(*one_row(conn.execute(FREE_REMOVED, {"ids": plain_array(ids)}, prepare=False)))
