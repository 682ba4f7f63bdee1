"""How many jobs there are, answered at once however many there are."""

from collections.abc import Mapping

from psycopg.rows import dict_row

from ayb_jobs.model.job import JobState
from ayb_jobs.model.stats import JobStats
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue.lateness import find_longest
from ayb_jobs.storage.rows import one_row

# So many jobs of a state are counted one by one; more are estimated. A backlog is worth a longer wait than an archive.
COUNTED = {
    JobState.QUEUED: 1_000_000,
    JobState.RUNNING: 1_000_000,
    JobState.COMPLETED: 100_000,
    JobState.FAILED: 100_000,
    JobState.CANCELED: 100_000,
}


# The shares come from about 400 pages, always the same ones, so that two calls in a row agree; the whole comes from the
# last ANALYZE and the table's present size, or from the sample where there was none yet.
ESTIMATE_JOBS = """
    WITH size AS (
        SELECT reltuples / nullif(relpages, 0) AS rows_per_page,
            greatest(1, pg_relation_size(oid) / current_setting('block_size')::int) AS pages
        FROM pg_class
        WHERE oid = '_ayb_jobs'::regclass
    ),
    sampled AS (
        SELECT state, count(*) AS jobs, sum(count(*)) OVER () AS of
        FROM _ayb_jobs TABLESAMPLE SYSTEM (
            least(100, 100 * 400.0 / greatest(1, pg_relation_size('_ayb_jobs') / current_setting('block_size')::int))
        ) REPEATABLE (0)
        GROUP BY state
    )
    SELECT state, (jobs / of * coalesce(rows_per_page * pages, of * greatest(1, pages / 400.0)))::bigint
    FROM sampled, size
"""

# All but the completed have a partial index to be counted by; those are found by reading the table from its start.
# The job that is due for the longest time stands first in its lane of queue and priority, but for those due since for
# ever, which have no age.
COUNT_JOBS = """
    WITH RECURSIVE lanes AS (
        (
            SELECT queue, priority, run_at
            FROM _ayb_jobs
            WHERE state = 'queued' AND run_at > '-infinity'
            ORDER BY queue, priority, run_at
            LIMIT 1
        )
        UNION ALL
        SELECT next.*
        FROM lanes, LATERAL (
            SELECT queue, priority, run_at
            FROM _ayb_jobs
            WHERE state = 'queued' AND (queue, priority) > (lanes.queue, lanes.priority) AND run_at > '-infinity'
            ORDER BY queue, priority, run_at
            LIMIT 1
        ) AS next
    )
    SELECT
        (SELECT count(*) FROM (SELECT FROM _ayb_jobs WHERE state = 'queued' LIMIT %(queued)s) AS counted) AS queued,
        (SELECT count(*) FROM (SELECT FROM _ayb_jobs WHERE state = 'running' LIMIT %(running)s) AS counted) AS running,
        (SELECT count(*) FROM (SELECT FROM _ayb_jobs WHERE state = 'completed' LIMIT %(completed)s) AS counted) AS completed,
        (SELECT count(*) FROM (SELECT FROM _ayb_jobs WHERE state = 'failed' LIMIT %(failed)s) AS counted) AS failed,
        (SELECT count(*) FROM (SELECT FROM _ayb_jobs WHERE state = 'canceled' LIMIT %(canceled)s) AS counted) AS canceled,
        (
            SELECT extract(epoch FROM now() - min(run_at))::float8 FROM lanes WHERE run_at <= now() AND isfinite(run_at)
        ) AS oldest_s
"""


def estimate_jobs(conn: Connection) -> dict[str, int]:
    """Estimate the jobs by state, from a sample of fixed size."""
    return dict(conn.execute(ESTIMATE_JOBS).fetchall())


def job_stats(conn: Connection, *, counted: Mapping[JobState, int] = COUNTED) -> JobStats:
    """Count the jobs by state: exactly up to the limits of `counted`, beyond them by an estimate."""
    estimates = estimate_jobs(conn)
    # What the estimate finds far beyond the limit is not counted at all.
    limits = {state.value: 0 if estimates.get(state, 0) > 2 * most else most + 1 for state, most in counted.items()}
    with conn.cursor(row_factory=dict_row) as cursor:
        found = one_row(cursor.execute(COUNT_JOBS, limits, prepare=False))
    longest = find_longest(conn)
    many = frozenset(state for state in counted if not found[state] < limits[state])
    return JobStats(
        counts={
            state: max(counted[state] + 1, estimates.get(state, 0)) if state in many else found[state]
            for state in JobState
        },
        oldest_queued_age_s=found["oldest_s"],
        oldest_startable_age_s=longest.waited_s if longest else None,
        estimated=many,
    )
