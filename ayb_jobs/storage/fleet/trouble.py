"""What goes wrong with the work: what daemons, types and parents tell of it."""

from typing import NamedTuple

from psycopg.rows import class_row

from ayb_jobs.storage.database import Connection

LIST_VERSIONS = """
    SELECT version, count(*)
    FROM _ayb_job_workers
    WHERE heartbeat_at BETWEEN now() - interval '1 minute' AND now() + interval '1 minute' AND version <> 'sql'
    GROUP BY version
    ORDER BY version
"""


def list_versions(conn: Connection) -> dict[str, int]:
    """Return how many daemons of each version are alive."""
    return dict(conn.execute(LIST_VERSIONS).fetchall())


# One host that dies loses many attempts at a time. If an attempt is lost that began after a first loss, it came again.
# The span between two ends of the calendar is more than an interval holds.
LIST_OFTEN_LOST = """
    SELECT job_type, seconds
    FROM (
        SELECT job_type, percentile_cont(0.9) WITHIN GROUP (ORDER BY extract(epoch FROM ended_at - started_at))::float8 AS seconds,
            count(*) FILTER (WHERE outcome = 'lost') AS lost,
            bool_or(outcome = 'lost' AND started_at > first_lost_at) AS lost_again
        FROM (
            SELECT *, min(ended_at) FILTER (WHERE outcome = 'lost') OVER (PARTITION BY job_type) AS first_lost_at
            FROM (SELECT * FROM _ayb_job_executions ORDER BY id DESC LIMIT 5000) AS latest
            WHERE started_at BETWEEN '0001-01-01' AND '9999-12-31' AND ended_at BETWEEN '0001-01-01' AND '9999-12-31'
        ) AS dated
        GROUP BY job_type
    ) AS types
    WHERE lost >= 3 AND lost_again
    ORDER BY lost DESC, job_type
    LIMIT 10
"""


def list_often_lost(conn: Connection) -> dict[str, float]:
    """Return the types that lost their daemon more than once, with how long they run.

    They lost 3 or more of the latest 5,000 attempts. What one kill takes at a time counts as one loss.
    """
    return dict(conn.execute(LIST_OFTEN_LOST).fetchall())


class HeldChildren(NamedTuple):
    """How many jobs wait for a parent that failed or was canceled, up to 1,000, and one such parent."""

    children: int
    parent_id: str


COUNT_HELD_CHILDREN = """
    SELECT count(DISTINCT child_id) AS children, min(parent_id::text) AS parent_id
    FROM (
        SELECT edge.child_id, edge.parent_id
        FROM _ayb_job_dependencies AS edge
        JOIN _ayb_jobs AS child ON child.id = edge.child_id AND child.state = 'queued' AND child.blocked_run_at IS NOT NULL
        JOIN _ayb_jobs AS parent ON parent.id = edge.parent_id AND parent.state IN ('failed', 'canceled')
        WHERE edge.is_open AND edge.rule = 'hold'
        LIMIT 1000
    ) AS held
    HAVING count(*) > 0
"""


def count_held_children(conn: Connection) -> HeldChildren | None:
    """Return how many jobs wait until a parent is retried and completes; None if none does."""
    with conn.cursor(row_factory=class_row(HeldChildren)) as cursor:
        return cursor.execute(COUNT_HELD_CHILDREN).fetchone()


LIST_ONE_ATTEMPT = """
    SELECT type, count(*)
    FROM (SELECT type, max_attempts FROM _ayb_jobs ORDER BY created_at DESC, id DESC LIMIT 5000) AS newest
    WHERE max_attempts = 1
    GROUP BY type
    ORDER BY count(*) DESC, type
    LIMIT 10
"""


def list_one_attempt(conn: Connection) -> dict[str, int]:
    """Return the types of which any of the newest 5,000 jobs has one attempt alone, with how many have."""
    return dict(conn.execute(LIST_ONE_ATTEMPT).fetchall())


class LongRun(NamedTuple):
    """A type whose attempts take longer than their leases: how long usually, and how long the leases are."""

    type: str
    run_s: float
    lease_s: float


# How long a lease is stands nowhere. From the start of what runs to the end of its lease it is that long or longer,
# also if its daemon is gone and the lease runs down.
LIST_LONG_RUNS = """
    WITH leases AS (
        SELECT min(extract(epoch FROM lease_until - last_run_at))::float8 AS lease_s
        FROM _ayb_jobs
        WHERE state = 'running' AND lease_id IS NOT NULL AND lease_until BETWEEN '0001-01-01' AND '9999-12-31'
            AND last_run_at BETWEEN '0001-01-01' AND '9999-12-31'
    ), runs AS (
        SELECT job_type AS type, bool_or(outcome = 'lost' AND started_at > first_lost_at) AS lost_again,
            percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM ended_at - started_at))::float8 AS run_s
        FROM (
            SELECT *, min(ended_at) FILTER (WHERE outcome = 'lost') OVER (PARTITION BY job_type) AS first_lost_at
            FROM (SELECT * FROM _ayb_job_executions ORDER BY id DESC LIMIT 5000) AS latest
            WHERE started_at BETWEEN '0001-01-01' AND '9999-12-31' AND ended_at BETWEEN '0001-01-01' AND '9999-12-31'
        ) AS dated
        GROUP BY job_type
    )
    SELECT type, run_s, lease_s
    FROM runs, leases
    WHERE lost_again AND run_s > lease_s
    ORDER BY run_s DESC, type
    LIMIT 10
"""


def list_long_runs(conn: Connection) -> list[LongRun]:
    """Return the types that lost daemons more than once lately and usually take longer than the leases of what runs."""
    with conn.cursor(row_factory=class_row(LongRun)) as cursor:
        return cursor.execute(LIST_LONG_RUNS).fetchall()
