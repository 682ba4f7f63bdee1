"""The figures of the queue that are measured, not counted: how many wait, and for how long."""

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg.rows import dict_row

from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.daemons import ALIVE_S
from ayb_jobs.storage.rows import one_row

# Queued jobs are counted up to here: a scrape every few seconds must cost next to nothing.
COUNTED = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauges:
    """The queue at one moment. Ages are in seconds, 0 if there is nothing to be old.

    `queued` is by queue; None stands for all queues beyond the number that was asked for. `batches` are those that are
    sealed and not done, up to 10,000. `cut` tells that more are queued than were counted.
    """

    queued: dict[str | None, int]
    running: int
    oldest_ready_s: float
    oldest_expired_lease_s: float
    batches: int
    workers: int
    cut: bool


# The partial index of queued jobs answers this alone, and in its own order, so that the count ends at its limit.
# Queues are named by whoever enqueues: beyond the deepest few, those of no name here are counted together.
COUNT_QUEUED = """
    WITH queues AS (
        SELECT queue, count(*) AS jobs, min(run_at) FILTER (WHERE run_at <= now() AND isfinite(run_at)) AS oldest,
            row_number() OVER (ORDER BY queue = ANY (%(named)s::text[]) DESC, count(*) DESC, queue) AS place
        FROM (
            SELECT queue, run_at FROM _ayb_jobs WHERE state = 'queued' ORDER BY queue, priority, run_at, id LIMIT %(most)s
        ) AS queued
        GROUP BY queue
    )
    SELECT CASE WHEN place <= %(most_queues)s THEN queue END, sum(jobs)::bigint,
        coalesce(extract(epoch FROM now() - min(oldest)), 0)::float8
    FROM queues
    GROUP BY 1
"""

MEASURE_REST = """
    SELECT
        (SELECT count(*) FROM _ayb_jobs WHERE state = 'running') AS running,
        (
            SELECT coalesce(extract(epoch FROM now() - min(lease_until)), 0)::float8
            FROM _ayb_jobs WHERE state = 'running' AND lease_until < now() AND isfinite(lease_until)
        ) AS oldest_expired_lease_s,
        (
            SELECT count(*) FROM (
                SELECT FROM _ayb_job_batches WHERE done_at IS NULL AND sealed_at IS NOT NULL LIMIT 10000
            ) AS unfinished
        ) AS batches,
        (
            SELECT count(*) FROM _ayb_job_workers
            WHERE heartbeat_at
                BETWEEN now() - make_interval(secs => %(alive_s)s) AND now() + make_interval(secs => %(alive_s)s)
        ) AS workers
"""


def measure(conn: Connection, *, queues: Sequence[str], most_queues: int) -> Gauges:
    """Measure the queue, naming at most so many queues: first `queues`, then the deepest."""
    values = {"most": COUNTED, "named": list(queues), "most_queues": most_queues}
    queued = conn.execute(COUNT_QUEUED, values).fetchall()
    with conn.cursor(row_factory=dict_row) as cursor:
        rest = one_row(cursor.execute(MEASURE_REST, {"alive_s": ALIVE_S}))
    return Gauges(
        queued={queue: count for queue, count, _ in queued},
        cut=sum(count for _, count, _ in queued) >= COUNTED,
        oldest_ready_s=max((age_s for _, _, age_s in queued), default=0.0),
        **rest,
    )
