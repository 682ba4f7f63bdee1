"""Lists of jobs for people who look for some: filters together, in pages, each with a bound on what it reads.

Due and delayed jobs are listed in the order in which they will be leased, all others the newest first. A page reads at
most `LOOK` rows. If fewer match than fit on a page, it tells where to look further.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, LiteralString, NamedTuple

from psycopg.rows import class_row

from ayb_jobs.model.filters import Filter
from ayb_jobs.model.job import JobState
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue.jobs import Position
from ayb_jobs.storage.queue.matching import MATCHING
from ayb_jobs.storage.rows import one_row

LOOK = 20_000
# Most pages are full after so many.
FIRST_LOOK = 1_000
# So many lanes of queue and priority are listed by due time, and so many are counted. What is in others is left out.
MOST_LANES = 200
COUNTED_LANES = 1000
# Bytes of a table that is read from its start in no time.
LARGE = 8 * 2**20


class Shown(StrEnum):
    """Which jobs a list shows: `waiting` are due, `later` are not due yet, and both are queued."""

    ALL = "all"
    WAITING = "waiting"
    LATER = "later"
    RUNNING = "running"
    FAILED = "failed"
    COMPLETED = "completed"
    CANCELED = "canceled"

    @property
    def by_due_time(self) -> bool:
        """Whether the list is in the order in which jobs become due."""
        return self in {Shown.WAITING, Shown.LATER}


class Listed(NamedTuple):
    """A job as a list shows it. `error` is the first line of its last error, `ran_s` how long it has run or ran.

    `place` is where it stands in the list: when it is due, or when it was created, as PostgreSQL writes it.
    """

    id: str
    place: str
    type: str
    state: JobState
    queue: str
    priority: int
    is_due: bool
    run_at: datetime
    attempts: int
    max_attempts: int
    idempotency_key: str | None
    worker_id: str | None
    error: str | None
    created_at: datetime
    ran_s: float | None
    waited_s: float | None
    is_blocked: bool
    limit: str | None
    limit_key: str | None


class Page(NamedTuple):
    """Some jobs. `next` is where the following page begins; `looked` says that the bound on reading ended this one.

    `left_out` says that there are more lanes than are listed by due time, whose jobs stand on no page.
    """

    jobs: list[Listed]
    next: Position | None
    looked: bool
    left_out: bool = False


_COLUMNS = """
    job.id::text AS id, place.at::text AS place, job.type, job.state, job.queue,
    CASE WHEN job.priority > 4 THEN job.priority - 4 ELSE job.priority END AS priority, job.run_at <= now() AS is_due, job.run_at,
    job.attempts, job.max_attempts, job.idempotency_key, job.worker_id,
    left(split_part(left(job.last_error, 2000), chr(10), 1), 300) AS error, job.created_at,
    CASE
        WHEN NOT isfinite(job.last_run_at) THEN NULL
        WHEN job.state = 'running' THEN extract(epoch FROM now() - job.last_run_at)
        WHEN job.state IN ('completed', 'failed') AND job.last_run_at BETWEEN '0001-01-01' AND '9999-12-31'
            AND coalesce(job.completed_at, job.updated_at) BETWEEN '0001-01-01' AND '9999-12-31'
            THEN extract(epoch FROM coalesce(job.completed_at, job.updated_at) - job.last_run_at)
    END::float8 AS ran_s,
    CASE WHEN job.state = 'queued' AND isfinite(job.run_at) THEN extract(epoch FROM now() - job.run_at) END::float8 AS waited_s,
    job.state = 'queued' AND job.blocked_run_at IS NOT NULL AS is_blocked, job.limited_by AS limit, job.limited_key AS limit_key
"""

# What runs stands in the index of leases alone, all else in that of creation. What has completed has none of its own.
LIST_NEWEST = f"""
    WITH looked AS MATERIALIZED (
        (
            SELECT id, created_at AS at, state, type, queue, idempotency_key, batch_id, last_error, created_at
            FROM _ayb_jobs
            WHERE state <> 'running'
                AND (%(state)s::text IS NULL OR %(state)s::text = 'completed' OR state = %(state)s::text)
                AND (%(since)s::timestamptz IS NULL OR created_at >= %(since)s::timestamptz)
                AND (%(until)s::timestamptz IS NULL OR created_at < %(until)s::timestamptz)
                AND (%(after_id)s::uuid IS NULL OR (created_at, id) < (%(after_at)s::timestamptz, %(after_id)s::uuid))
            ORDER BY created_at DESC, id DESC
            LIMIT %(look)s
        )
        UNION ALL
        (
            SELECT id, created_at, state, type, queue, idempotency_key, batch_id, last_error, created_at
            FROM _ayb_jobs
            WHERE state = 'running' AND (%(state)s::text IS NULL OR 'running' = %(state)s::text)
                AND (%(after_id)s::uuid IS NULL OR (created_at, id) < (%(after_at)s::timestamptz, %(after_id)s::uuid))
            ORDER BY created_at DESC, id DESC
            LIMIT %(look)s
        )
    ), bound AS (
        SELECT id, at FROM looked ORDER BY at DESC, id DESC OFFSET %(look)s - 1 LIMIT 1
    ), place AS (
        SELECT id, at
        FROM looked
        WHERE (%(state)s::text IS NULL OR state = %(state)s::text) AND {MATCHING}
            AND NOT EXISTS (SELECT FROM bound WHERE (looked.at, looked.id) < (bound.at, bound.id))
        ORDER BY at DESC, id DESC
        LIMIT %(limit)s
    )
    SELECT {_COLUMNS}, (SELECT bound.at::text FROM bound) AS bound_at, (SELECT bound.id::text FROM bound) AS bound_id,
        false AS left_out
    FROM (SELECT) AS once LEFT JOIN place ON true LEFT JOIN _ayb_jobs AS job ON job.id = place.id
    ORDER BY place.at DESC, place.id DESC
"""
# Each lane of queue and priority is walked by itself, so that neither jobs that are due later nor other lanes are read.
# The lanes share the bound, and the page ends where the first of them was left.
LIST_BY_DUE_TIME = f"""
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
    ), served AS MATERIALIZED (
        SELECT queue, priority, greatest(%(limit)s, %(look)s / count(*) OVER ()) AS share
        FROM (SELECT queue, priority FROM lanes LIMIT %(lanes)s) AS first
    ), looked AS MATERIALIZED (
        SELECT job.*, served.share,
            row_number() OVER (PARTITION BY served.queue, served.priority ORDER BY job.at, job.id) AS nth
        FROM served CROSS JOIN LATERAL (
            SELECT id, run_at AS at, type, queue, idempotency_key, batch_id, last_error, created_at
            FROM _ayb_jobs
            WHERE state = 'queued' AND queue = served.queue AND priority = served.priority
                AND run_at >= CASE WHEN %(later)s THEN now() + interval '1 microsecond' ELSE '-infinity' END
                AND run_at <= CASE WHEN %(later)s THEN 'infinity' ELSE now() END
                AND (%(after_id)s::uuid IS NULL OR (run_at, id) > (%(after_at)s::timestamptz, %(after_id)s::uuid))
            ORDER BY run_at, id
            LIMIT served.share
        ) AS job
    ), bound AS (
        SELECT id, at FROM looked WHERE nth = share ORDER BY at, id LIMIT 1
    ), place AS (
        SELECT id, at
        FROM looked
        WHERE {MATCHING} AND NOT EXISTS (SELECT FROM bound WHERE (looked.at, looked.id) > (bound.at, bound.id))
        ORDER BY at, id
        LIMIT %(limit)s
    )
    SELECT {_COLUMNS}, (SELECT bound.at::text FROM bound) AS bound_at, (SELECT bound.id::text FROM bound) AS bound_id,
        EXISTS (SELECT FROM lanes OFFSET %(lanes)s) AS left_out
    FROM (SELECT) AS once LEFT JOIN place ON true LEFT JOIN _ayb_jobs AS job ON job.id = place.id
    ORDER BY place.at, place.id
"""


class _Row(NamedTuple):
    id: Any
    place: Any
    type: Any
    state: Any
    queue: Any
    priority: Any
    is_due: Any
    run_at: Any
    attempts: Any
    max_attempts: Any
    idempotency_key: Any
    worker_id: Any
    error: Any
    created_at: Any
    ran_s: Any
    waited_s: Any
    is_blocked: Any
    limit: Any
    limit_key: Any
    bound_at: str | None
    bound_id: str | None
    left_out: bool


def browse_jobs(
    conn: Connection, shown: Shown, wanted: Filter, *, after: Position | None = None, limit: int = 50, look: int = LOOK
) -> Page:
    """Return a page of the jobs that a filter finds; `after` is an earlier page's `next`.

    Planned anew for each call: a plan that fits any filter uses the index of none.
    """
    values = {
        **wanted.values(),
        "state": None if shown is Shown.ALL else shown,
        "later": shown is Shown.LATER,
        "after_at": after and after.at,
        "after_id": after and after.id,
        "limit": limit + 1,
        "lanes": MOST_LANES,
    }
    statement = LIST_BY_DUE_TIME if shown.by_due_time else LIST_NEWEST
    page = _look(conn, statement, {**values, "look": max(min(look, FIRST_LOOK), limit + 1)})
    if page.looked and look > FIRST_LOOK:
        return _look(conn, statement, {**values, "look": look})
    return page


def _look(conn: Connection, statement: LiteralString, values: Mapping[str, Any]) -> Page:
    with conn.cursor(row_factory=class_row(_Row)) as cursor:
        rows = cursor.execute(statement, values, prepare=False).fetchall()
    found = [Listed(*row[:-3])._replace(state=JobState(row.state)) for row in rows if row.id is not None]
    limit, left_out = values["limit"] - 1, rows[0].left_out
    if len(found) > limit:
        last = found[limit - 1]
        return Page(found[:limit], Position(last.place, last.id), looked=False, left_out=left_out)
    bound_at, bound_id = rows[0].bound_at, rows[0].bound_id
    if bound_at is not None and bound_id is not None:
        return Page(found, Position(bound_at, bound_id), looked=True, left_out=left_out)
    return Page(found, None, looked=False, left_out=left_out)


class Counts(NamedTuple):
    """How many jobs there are of each kind; a figure of `most` stands for at least so many.

    So do `waiting` and `later` if they are `cut`: there are more lanes of queue and priority than were counted.
    """

    waiting: int
    later: int
    running: int
    failed: int
    canceled: int
    completed: int
    cut: bool


# Counts are in the order of an index, so that no plan walks the table for them. What has completed has no index: it is
# counted if the table is small. The planner does not know the bound of a lane, as in MEASURE_LEVEL.
COUNT_SHOWN = """
    WITH RECURSIVE lanes AS (
        (
            SELECT queue, priority FROM _ayb_jobs WHERE state = 'queued' ORDER BY queue, priority LIMIT 1
        )
        UNION ALL
        SELECT next.*
        FROM lanes, LATERAL (
            SELECT queue, priority
            FROM _ayb_jobs
            WHERE state = 'queued' AND (queue, priority) > (lanes.queue, lanes.priority)
            ORDER BY queue, priority
            LIMIT 1
        ) AS next
    ), served AS (
        SELECT queue, priority FROM lanes LIMIT %(lanes)s
    )
    SELECT
        (
            SELECT count(*) FROM (
                SELECT FROM served CROSS JOIN LATERAL (
                    SELECT FROM _ayb_jobs
                    WHERE state = 'queued' AND queue = served.queue AND priority = served.priority AND run_at <= now()
                    ORDER BY run_at
                    LIMIT (SELECT %(most)s::bigint)
                ) AS due
                LIMIT %(most)s
            ) AS counted
        ) AS waiting,
        (
            SELECT count(*) FROM (
                SELECT FROM served CROSS JOIN LATERAL (
                    SELECT FROM _ayb_jobs
                    WHERE state = 'queued' AND queue = served.queue AND priority = served.priority AND run_at > now()
                    ORDER BY run_at
                    LIMIT (SELECT %(most)s::bigint)
                ) AS later
                LIMIT %(most)s
            ) AS counted
        ) AS later,
        (
            SELECT count(*) FROM (
                SELECT FROM _ayb_jobs WHERE state = 'running' ORDER BY lease_until LIMIT %(most)s
            ) AS counted
        ) AS running,
        (
            SELECT count(*) FROM (
                SELECT FROM _ayb_jobs WHERE state = 'failed' ORDER BY created_at, id LIMIT %(most)s
            ) AS counted
        ) AS failed,
        (
            SELECT count(*) FROM (
                SELECT FROM _ayb_jobs WHERE state = 'canceled' ORDER BY created_at, id LIMIT %(most)s
            ) AS counted
        ) AS canceled,
        CASE
            WHEN pg_relation_size('_ayb_jobs') > %(large)s THEN %(most)s
            ELSE (SELECT count(*) FROM (SELECT FROM _ayb_jobs WHERE state = 'completed' LIMIT %(most)s) AS counted)
        END AS completed,
        EXISTS (SELECT FROM lanes OFFSET %(lanes)s) AS cut
"""


def count_shown(conn: Connection, *, most: int = 10_000, lanes: int = COUNTED_LANES) -> Counts:
    """Count the jobs of each list, each up to `most`. Of a large table `completed` is `most`: they are not counted."""
    values = {"most": most, "lanes": lanes, "large": LARGE}
    with conn.cursor(row_factory=class_row(Counts)) as cursor:
        return one_row(cursor.execute(COUNT_SHOWN, values, prepare=False))
