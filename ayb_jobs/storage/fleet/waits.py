"""Which jobs wait, by type and queue, and the first of each, whose reason tells for them."""

from collections.abc import Sequence
from typing import NamedTuple

from psycopg.rows import class_row

from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.daemons import ALIVE_S

# So many of each lane are looked at, due and not due; what is behind them waits for the same.
LOOK = 1000
MOST_LANES = 200
MOST_GROUPS = 30
MOST_DISABLED = 1000


class Waiting(NamedTuple):
    """Jobs of one type in one queue that wait alike: how many were seen, and the first of them.

    If it is `cut`, not all were looked at: at least so many wait. `more` lanes may not have been looked at, either.
    """

    type: str
    queue: str
    jobs: int
    first_id: str
    cut: bool
    more: bool


class Listed(NamedTuple):
    """What waits, as far as it was listed, and whether there is `more`."""

    first: Sequence[Waiting]
    more: bool


# The lanes are walked by a loose scan. What waits for another attempt waits for another reason than what was enqueued
# for later, and what is put off for ever for another one still.
LIST_WAITING = """
    WITH RECURSIVE lanes AS (
        (
            SELECT queue, priority
            FROM _ayb_jobs
            WHERE state = 'queued' AND (%(queue)s::text IS NULL OR queue = %(queue)s::text)
            ORDER BY queue, priority
            LIMIT 1
        )
        UNION ALL
        SELECT next.*
        FROM lanes, LATERAL (
            SELECT queue, priority
            FROM _ayb_jobs
            WHERE state = 'queued' AND (queue, priority) > (lanes.queue, lanes.priority)
                AND (%(queue)s::text IS NULL OR queue = %(queue)s::text)
            ORDER BY queue, priority
            LIMIT 1
        ) AS next
    ), seen AS (
        SELECT lane.queue, lane.priority, front.*
        FROM (SELECT queue, priority FROM lanes LIMIT %(lanes)s) AS lane
        CROSS JOIN LATERAL (
            (
                SELECT id, type, run_at, 0 AS sort
                FROM _ayb_jobs
                WHERE state = 'queued' AND queue = lane.queue AND priority = lane.priority AND run_at <= now()
                ORDER BY run_at, id
                LIMIT %(look)s
            )
            UNION ALL
            (
                SELECT id, type, run_at, CASE WHEN run_at >= '9999-12-31 UTC' THEN 3 WHEN attempts > 0 THEN 1 ELSE 2 END AS sort
                FROM _ayb_jobs
                WHERE state = 'queued' AND queue = lane.queue AND priority = lane.priority AND run_at > now()
                ORDER BY run_at, id
                LIMIT %(look)s
            )
        ) AS front
    ), counted AS (
        SELECT queue, priority, sort, type, count(*) AS jobs, (array_agg(id ORDER BY run_at, id))[1] AS first_id,
            sum(count(*)) OVER (PARTITION BY queue, priority, sort > 0) >= %(look)s AS cut
        FROM seen
        GROUP BY queue, priority, sort, type
    )
    SELECT type, queue, sum(jobs)::bigint AS jobs, (array_agg(first_id::text ORDER BY priority))[1] AS first_id,
        bool_or(cut) AS cut, EXISTS (SELECT FROM lanes OFFSET %(lanes)s) AS more
    FROM counted
    GROUP BY sort, type, queue
    ORDER BY sort, sum(jobs) DESC, queue, type
    LIMIT %(most)s + 1
"""

# The recoverer of a daemon takes a job over within 2 s of the end of its lease.
LIST_LOST = """
    SELECT type, queue, count(*) AS jobs, (array_agg(id::text ORDER BY lease_until, id))[1] AS first_id,
        sum(count(*)) OVER () >= %(look)s AS cut, false AS more
    FROM (
        SELECT id, type, queue, lease_until
        FROM _ayb_jobs AS job
        WHERE state = 'running' AND coalesce(lease_id, canceling_lease_id) IS NOT NULL
            AND (%(queue)s::text IS NULL OR queue = %(queue)s::text)
            AND (lease_until < now() - interval '2 seconds' OR NOT EXISTS (
                SELECT FROM _ayb_job_workers AS daemon
                WHERE daemon.id = job.worker_id AND heartbeat_at > now() - make_interval(secs => %(alive_s)s)
            ))
        LIMIT %(look)s
    ) AS lost
    GROUP BY type, queue
    ORDER BY count(*) DESC, queue, type
    LIMIT %(most)s + 1
"""


def list_waiting(conn: Connection, *, queue: str | None = None) -> Listed:
    """Return what waits in a queue, or in all: first what lost its daemon, then what is due, then the rest."""
    values = {"queue": queue, "look": LOOK, "lanes": MOST_LANES, "most": MOST_GROUPS, "alive_s": ALIVE_S}
    with conn.cursor(row_factory=class_row(Waiting)) as cursor:
        lost = cursor.execute(LIST_LOST, values, prepare=False).fetchall()
        rest = cursor.execute(LIST_WAITING, values, prepare=False).fetchall()
    more = max(len(lost), len(rest)) > MOST_GROUPS or any(each.more for each in rest)
    return Listed([*lost[:MOST_GROUPS], *rest[:MOST_GROUPS]], more)


LIST_DISABLED = "SELECT name FROM _ayb_job_schedules WHERE NOT enabled ORDER BY name LIMIT %(most)s"


def list_disabled(conn: Connection) -> list[str]:
    """Return the names of the schedules that are disabled, up to 1,000."""
    return [name for (name,) in conn.execute(LIST_DISABLED, {"most": MOST_DISABLED})]
