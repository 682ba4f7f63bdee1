"""Put jobs under their limits that are known by their ids, and let go what waits under a limit of another type."""

from collections.abc import Sequence
from typing import NamedTuple

from ayb_jobs.storage.arrays import plain_array
from ayb_jobs.storage.channel import MAY_NOTIFY
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue.lanes import BY_INDEX
from ayb_jobs.storage.rows import one_row

# The key of a job `due` under the limit of its type. One that is too long is hashed. A list or an object is none: its
# text may be a gigabyte, though it is stored in a page.
KEY_OF_DUE = """
            SELECT CASE WHEN length(long) <= 200 THEN long ELSE encode(sha256(convert_to(long, 'UTF8')), 'hex') END AS short
            FROM (
                SELECT coalesce(
                    keyed.limit_key,
                    CASE WHEN jsonb_typeof(keyed.payload -> limited_types.key_field) NOT IN ('array', 'object')
                        THEN keyed.payload ->> limited_types.key_field END,
                    '') AS long
                FROM _ayb_jobs AS keyed WHERE keyed.id = due.id
            ) AS given
"""
# The step `put_under` of `LEASE_BESIDE_LIMITS`, for jobs that are known already. What runs of a type when it becomes
# limited counts as well, also if it came under another limit before: it has an old number, so the limit's mark goes
# back with it, behind the limit's lock. That is taken first, and without a wait: whoever waits with a job's row locked
# keeps it from being settled. Nothing is looked for in a list of them all once for each: there may be thousands.
PUT_UNDER = f"""
    WITH limited_types AS MATERIALIZED (
        SELECT type, limits.name, limits.key_field
        FROM _ayb_job_limits AS limits CROSS JOIN unnest(limits.types) AS type
    ), held AS MATERIALIZED (
        SELECT name FROM _ayb_job_limits
        WHERE name = ANY (ARRAY(
            SELECT limited_types.name FROM _ayb_jobs AS job JOIN limited_types ON limited_types.type = job.type
            WHERE job.id = ANY (%(ids)s::uuid[]) AND job.state = 'running'))
        FOR NO KEY UPDATE SKIP LOCKED
    ), due AS MATERIALIZED (
        SELECT job.id, job.type, job.state
        FROM _ayb_jobs AS job JOIN limited_types ON limited_types.type = job.type
        WHERE job.id = ANY (%(ids)s::uuid[]) AND (job.priority <= 4 OR job.limited_by IS DISTINCT FROM limited_types.name)
            AND (job.state = 'queued' OR job.state = 'running' AND limited_types.name = ANY (ARRAY(SELECT name FROM held)))
        FOR NO KEY UPDATE OF job SKIP LOCKED
    ), counted AS (
        UPDATE _ayb_job_limits SET running_from = 0
        WHERE name = ANY (ARRAY(
            SELECT limited_types.name FROM due JOIN limited_types ON limited_types.type = due.type
            WHERE due.state = 'running'))
    ), put_under AS (
        UPDATE _ayb_jobs AS job
        SET priority = CASE WHEN job.priority > 4 THEN job.priority ELSE job.priority + 4 END, limited_by = limited_types.name, limited_key = key.short, updated_at = now()
        FROM due JOIN limited_types ON limited_types.type = due.type, LATERAL (
            {KEY_OF_DUE}
        ) AS key
        WHERE job.id = due.id
        RETURNING job.id, coalesce(job.limited_by, '') AS limited_by
    )
    SELECT due.id::text
    FROM due JOIN limited_types ON limited_types.type = due.type
    WHERE (due.id, limited_types.name) NOT IN (SELECT id, limited_by FROM put_under)
"""


def put_under(conn: Connection, ids: Sequence[str]) -> list[str]:
    """Put those of these jobs under their limits that are of limited types, unless somebody has locked job or limit.

    Return the ids of those that a trigger kept where they are.
    """
    return [row[0] for row in conn.execute(PUT_UNDER, {"ids": plain_array(ids)}, prepare=False)]


# Limits are looked at once, and not for each job of another type.
FIND_RUNNING_BESIDE = """
    SELECT job.id::text
    FROM _ayb_jobs AS job JOIN _ayb_job_limits AS limits ON job.type = ANY (limits.types)
    WHERE job.state = 'running' AND job.worker_id = %(worker_id)s
        AND job.type = ANY (ARRAY(SELECT unnest(types) FROM _ayb_job_limits))
        AND (job.priority <= 4 OR job.limited_by IS DISTINCT FROM limits.name)
"""


def find_running_beside(conn: Connection, *, worker_id: str) -> list[str]:
    """Return the ids of the jobs that a daemon runs and that do not count under the limits of their types."""
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


# It is asked again and again, for as long as the limit stands: what ran under it may be queued again at any time. A
# planner that takes a type of the limit to be frequent would walk all that waits under it. The order, which an equal
# sign would make void, leaves it the index of the types alone.
FIND_LEFT = """
    SELECT job.id::text
    FROM _ayb_job_limits AS limits CROSS JOIN unnest(limits.left_types) AS gone (type) CROSS JOIN LATERAL (
        SELECT job.id
        FROM _ayb_jobs AS job
        WHERE job.state = 'queued' AND job.limited_by = limits.name
            AND job.type BETWEEN gone.type AND gone.type
            AND job.id <> ALL (%(aside)s::uuid[])
        ORDER BY job.type
        LIMIT %(limit)s
    ) AS job
    LIMIT %(limit)s
"""


def find_left(conn: Connection, *, aside: Sequence[str] = (), limit: int = 1000) -> list[str]:
    """Return the ids of jobs that wait under a limit from which their type was taken."""
    values = {"aside": plain_array(aside), "limit": limit}
    with conn.transaction():
        conn.execute(BY_INDEX)
        return [row[0] for row in conn.execute(FIND_LEFT, values, prepare=False)]


# What waits under a limit that was removed, or from which its type was taken, goes back to the lanes of plain jobs.
FREE_REMOVED = f"""
    WITH met AS MATERIALIZED (
        SELECT id FROM _ayb_jobs
        WHERE id = ANY (%(ids)s::uuid[]) AND state = 'queued' AND limited_by IS NOT NULL AND NOT EXISTS (
            SELECT FROM _ayb_job_limits AS limits
            WHERE limits.name = _ayb_jobs.limited_by AND _ayb_jobs.type = ANY (limits.types)
        )
        FOR NO KEY UPDATE SKIP LOCKED
    ), freed AS (
        UPDATE _ayb_jobs
        SET priority = CASE WHEN priority > 4 THEN priority - 4 ELSE priority END, limited_by = NULL, limited_key = NULL,
            updated_at = now()
        WHERE id = ANY (ARRAY(SELECT id FROM met))
        RETURNING CASE WHEN limited_by IS NULL THEN id END AS id
    )
    SELECT (SELECT count(id) FROM freed),
        ARRAY(SELECT id::text FROM met WHERE id <> ALL (ARRAY(SELECT id FROM freed WHERE id IS NOT NULL))),
        CASE WHEN EXISTS (SELECT FROM freed WHERE id IS NOT NULL) AND {MAY_NOTIFY} THEN pg_notify('ayb_jobs', '')::text END
"""


class Freed(NamedTuple):
    """How many jobs were freed, and those that a trigger kept under their limit, without an error."""

    jobs: int
    kept: Sequence[str]


def free_removed(conn: Connection, ids: Sequence[str]) -> Freed:
    """Let those of these jobs go that wait under a limit that their type has not; those that are locked stay."""
    return Freed(*one_row(conn.execute(FREE_REMOVED, {"ids": plain_array(ids)}, prepare=False))[:2])
