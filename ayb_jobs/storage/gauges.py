"""The figures of the queue that are measured, not counted: how many wait, and for how long."""

from dataclasses import dataclass

from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.workers import ALIVE_S

# Queued jobs are counted up to here: a scrape every few seconds must cost next to nothing.
COUNTED = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauges:
    """The queue at one moment. Ages are in seconds, 0 where there is nothing to be old."""

    queued: dict[str, int]
    running: int
    oldest_ready_s: float
    oldest_expired_lease_s: float
    workers: int
    overdue: int


# The partial index of queued jobs answers this alone, and in its own order, so that the count ends at its limit.
COUNT_QUEUED = """
    SELECT queue, count(*), coalesce(extract(epoch FROM now() - min(run_at) FILTER (WHERE run_at <= now())), 0)::float8
    FROM (
        SELECT queue, run_at FROM _ayb_jobs WHERE state = 'queued' ORDER BY queue, priority, run_at, id LIMIT %(most)s
    ) AS queued
    GROUP BY queue
"""

MEASURE_REST = """
    SELECT
        (SELECT count(*) FROM _ayb_jobs WHERE state = 'running'),
        (
            SELECT coalesce(extract(epoch FROM now() - min(lease_until)), 0)::float8
            FROM _ayb_jobs WHERE state = 'running' AND lease_until < now()
        ),
        (SELECT count(*) FROM _ayb_job_workers WHERE heartbeat_at > now() - make_interval(secs => %(alive_s)s)),
        (SELECT count(*) FROM _ayb_job_overdue)
"""


def measure(conn: Connection) -> Gauges:
    """Measure the queue."""
    queued = conn.execute(COUNT_QUEUED, {"most": COUNTED}).fetchall()
    row = conn.execute(MEASURE_REST, {"alive_s": ALIVE_S}).fetchone()
    running, expired_s, workers, overdue = row or (0, 0.0, 0, 0)
    return Gauges(
        queued={queue: count for queue, count, _ in queued},
        running=running,
        oldest_ready_s=max((age_s for _, _, age_s in queued), default=0.0),
        oldest_expired_lease_s=expired_s,
        workers=workers,
        overdue=overdue,
    )
