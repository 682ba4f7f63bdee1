"""Each queue: what waits and runs in it, and how long the first has waited."""

from collections.abc import Sequence
from typing import NamedTuple

from psycopg.rows import class_row

from ayb_jobs.storage.database import Connection

# Jobs of one queue are counted up to here.
COUNTED = 10_000
MOST_QUEUES = 200


class QueueState(NamedTuple):
    """A queue; `waiting` and `running` are counted up to 10,000, and `oldest_wait_s` is None if nothing is due.

    `cut` tells that more than 10,000 jobs run in all queues: at least so many of them run in this one.
    """

    queue: str
    waiting: int
    later: bool
    running: int
    oldest_wait_s: float | None
    cut: bool = False


# Queues that hold queued jobs, and those that only run some. Each priority is a walk of its own, in the order of the
# index: where all jobs stand in one lane, the planner would read the table for each of the others. It does not know
# the bound of a lane, as in MEASURE_LEVEL.
LIST_QUEUES = """
    WITH RECURSIVE waiting AS (
        (
            SELECT queue FROM _ayb_jobs WHERE state = 'queued' ORDER BY queue LIMIT 1
        )
        UNION ALL
        SELECT next.queue
        FROM waiting, LATERAL (
            SELECT queue FROM _ayb_jobs WHERE state = 'queued' AND queue > waiting.queue ORDER BY queue LIMIT 1
        ) AS next
    ), running AS (
        SELECT queue, count(*) AS jobs
        FROM (SELECT queue FROM _ayb_jobs WHERE state = 'running' ORDER BY lease_until LIMIT %(most)s) AS running
        GROUP BY queue
    ), named AS (
        SELECT queue FROM (SELECT queue FROM waiting LIMIT %(queues)s + 1) AS first
        UNION
        SELECT queue FROM running
        UNION
        SELECT name FROM unnest(%(served)s::text[]) AS name
    )
    SELECT named.queue, due.jobs AS waiting, due.later, coalesce(running.jobs, 0) AS running, due.oldest_wait_s,
        (SELECT sum(jobs) FROM running) >= %(most)s IS TRUE AS cut
    FROM named
    LEFT JOIN running USING (queue)
    CROSS JOIN LATERAL (
        SELECT least(sum(jobs), %(most)s)::bigint AS jobs, bool_or(later) AS later, max(oldest_wait_s)::float8 AS oldest_wait_s
        FROM generate_series(1, 8) AS level (priority)
        CROSS JOIN LATERAL (
            SELECT count(*) AS jobs, extract(epoch FROM now() - min(run_at) FILTER (WHERE isfinite(run_at))) AS oldest_wait_s,
                coalesce((
                    SELECT true
                    FROM _ayb_jobs
                    WHERE state = 'queued' AND queue = named.queue AND priority = level.priority AND run_at > now()
                    ORDER BY run_at
                    LIMIT 1
                ), false) AS later
            FROM (
                SELECT run_at
                FROM _ayb_jobs
                WHERE state = 'queued' AND queue = named.queue AND priority = level.priority AND run_at <= now()
                ORDER BY run_at
                LIMIT (SELECT %(most)s::bigint)
            ) AS first
        ) AS lane
    ) AS due
    ORDER BY named.queue
    LIMIT %(queues)s + 1
"""


class Queues(NamedTuple):
    """The first queues by name, and whether there are `more`."""

    first: Sequence[QueueState]
    more: bool


def list_queues(conn: Connection, *, served: list[str], most: int = MOST_QUEUES) -> Queues:
    """Return up to 200 queues by name: those with jobs that wait or run, and those that are `served`."""
    values = {"most": COUNTED, "queues": most, "served": served}
    with conn.cursor(row_factory=class_row(QueueState)) as cursor:
        found = cursor.execute(LIST_QUEUES, values, prepare=False).fetchall()
    return Queues(found[:most], more=len(found) > most)


LIST_QUEUE_NAMES = """
    WITH RECURSIVE waiting AS (
        (
            SELECT queue FROM _ayb_jobs WHERE state = 'queued' ORDER BY queue LIMIT 1
        )
        UNION ALL
        SELECT next.queue
        FROM waiting, LATERAL (
            SELECT queue FROM _ayb_jobs WHERE state = 'queued' AND queue > waiting.queue ORDER BY queue LIMIT 1
        ) AS next
    )
    SELECT queue::text FROM (SELECT queue FROM waiting LIMIT %(queues)s) AS first
    UNION
    SELECT name FROM unnest(%(served)s::text[]) AS name
    ORDER BY queue
    LIMIT %(queues)s
"""


def list_queue_names(conn: Connection, *, served: list[str]) -> list[str]:
    """Return the names of up to 200 queues: those with jobs that wait, and those that are `served`."""
    values = {"queues": MOST_QUEUES, "served": served}
    return [name for (name,) in conn.execute(LIST_QUEUE_NAMES, values, prepare=False)]


class RunningJob(NamedTuple):
    """A job that a daemon runs: for how long, its timeout, and what it last said of its progress, as JSON."""

    id: str
    type: str
    worker_id: str
    ran_s: float | None
    timeout_s: float | None
    progress_text: str | None


LIST_RUNNING_JOBS = """
    SELECT id::text AS id, type, coalesce(worker_id, '') AS worker_id,
        CASE WHEN isfinite(last_run_at) THEN extract(epoch FROM now() - last_run_at) END::float8 AS ran_s, timeout_s,
        CASE WHEN pg_column_size(progress) <= 4096 THEN left(_ayb_job_text(progress), 500) END AS progress_text
    FROM _ayb_jobs
    WHERE state = 'running'
    ORDER BY last_run_at, id
    LIMIT %(limit)s
"""


def list_running(conn: Connection, *, limit: int) -> list[RunningJob]:
    """Return up to `limit` jobs that run now, those that have run longest first."""
    with conn.cursor(row_factory=class_row(RunningJob)) as cursor:
        return cursor.execute(LIST_RUNNING_JOBS, {"limit": limit}, prepare=False).fetchall()
