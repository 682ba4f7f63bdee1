"""Limits whose places have been taken for long while jobs wait behind them."""

from typing import NamedTuple

from psycopg.rows import class_row

from ayb_jobs.storage.database import Connection

MOST_HELD = 100


class HeldLimit(NamedTuple):
    """A limit, or a key of one, all of whose places are taken by jobs of which none started lately.

    `key` is None if the limit as a whole is full. `waiting` counts the due jobs behind it, up to 10,000; the first has
    waited for `waited_s`. The first of those that run has run for `held_s`.
    """

    name: str
    key: str | None
    types: list[str]
    running: int
    most: int
    held_s: float
    waiting: int
    waited_s: float


# What runs is few, so it is counted whole. Of a key and of a whole limit the due jobs are found by their index.
LIST_HELD = """
    WITH held AS MATERIALIZED (
        SELECT limited_by AS name, limited_key AS key, count(*) AS jobs,
            min(last_run_at) FILTER (WHERE isfinite(last_run_at)) AS first, max(last_run_at) AS last
        FROM _ayb_jobs
        WHERE state = 'running' AND limited_by IS NOT NULL
        GROUP BY limited_by, limited_key
    ), full_keys AS (
        SELECT allowed.name, held.key, allowed.types, held.jobs, allowed.key_max_running AS most, held.first
        FROM held JOIN _ayb_job_limits AS allowed ON allowed.name = held.name
        WHERE held.jobs >= allowed.key_max_running AND held.last < now() - make_interval(secs => %(since_s)s)
    ), full_limits AS (
        SELECT allowed.name, allowed.types, sum(held.jobs)::bigint AS jobs, allowed.max_running AS most, min(held.first) AS first
        FROM held JOIN _ayb_job_limits AS allowed ON allowed.name = held.name
        GROUP BY allowed.name
        HAVING sum(held.jobs) >= allowed.max_running AND max(held.last) < now() - make_interval(secs => %(since_s)s)
    ), behind AS (
        SELECT full_keys.name, full_keys.key, full_keys.types, full_keys.jobs, full_keys.most, full_keys.first,
            due.jobs AS waiting, due.waited_s
        FROM full_keys CROSS JOIN LATERAL (
            SELECT count(*) AS jobs, extract(epoch FROM now() - min(run_at)) AS waited_s
            FROM (
                SELECT run_at FROM _ayb_jobs
                WHERE state = 'queued' AND limited_by = full_keys.name AND limited_key = full_keys.key
                    AND run_at <= now() AND run_at > '-infinity'
                LIMIT 10000
            ) AS front
        ) AS due
        UNION ALL
        SELECT full_limits.name, NULL, full_limits.types, full_limits.jobs, full_limits.most, full_limits.first,
            due.jobs, due.waited_s
        FROM full_limits CROSS JOIN LATERAL (
            SELECT count(*) AS jobs, extract(epoch FROM now() - min(run_at)) AS waited_s
            FROM (
                SELECT run_at FROM _ayb_jobs
                WHERE state = 'queued' AND limited_by = full_limits.name AND run_at <= now() AND run_at > '-infinity'
                LIMIT 10000
            ) AS front
        ) AS due
    )
    SELECT name::text, key::text, types::text[], jobs AS running, most,
        greatest(extract(epoch FROM now() - first), 0)::float8 AS held_s, waiting, waited_s::float8
    FROM behind
    WHERE waited_s >= %(since_s)s
    ORDER BY waited_s DESC, name, key
    LIMIT %(most)s
"""


def list_held(conn: Connection, *, since_s: float) -> list[HeldLimit]:
    """Return what has been full for so long, with jobs that have waited for so long, the longest wait first."""
    with conn.cursor(row_factory=class_row(HeldLimit)) as cursor:
        return cursor.execute(LIST_HELD, {"since_s": since_s, "most": MOST_HELD}, prepare=False).fetchall()
