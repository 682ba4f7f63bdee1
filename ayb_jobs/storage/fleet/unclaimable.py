"""Jobs that are due and that nobody may lease: one daemon, or any that is alive."""

from collections.abc import Sequence
from typing import Any, LiteralString, NamedTuple

from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.daemons import ALIVE_S
from ayb_jobs.storage.rows import named

# Jobs that nobody leases gather at the front of their queue, so a look at its front finds them; how deep the queue is
# behind them must not matter. If more are due, each lane is looked at by itself, so that none hides another: at its
# front and, for what was enqueued a moment ago, at its end.
LOOK = 10_000
MOST_LANES = 1000
# So many pairs of type and queue are named.
MOST_NAMED = 50


class Unclaimable(NamedTuple):
    """How many due jobs of types that a daemon, or any, does not know wait, by type.

    And of the types that are known, by unserved queue. `total` counts also those whose
    names are too many to be told; `cut` tells that more are due than were counted.
    """

    types: dict[str, int]
    queues: dict[str, int]
    total: int = 0
    cut: bool = False


# Each lane is walked by itself, so that jobs that are due later are not. The planner does not know the bound, as in
# MEASURE_LEVEL.
DUE_BY_LANE: LiteralString = """
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
    ), lane AS MATERIALIZED (
        SELECT queue, priority, %(look)s::bigint / (4 * count(*) OVER ()) + 10 AS share
        FROM (SELECT queue, priority FROM lanes LIMIT %(lanes)s) AS few
    ), front AS MATERIALIZED (
        SELECT job.id, job.type, lane.queue
        FROM lane CROSS JOIN LATERAL (
            SELECT id, type
            FROM _ayb_jobs
            WHERE state = 'queued' AND queue = lane.queue AND priority = lane.priority AND run_at <= now()
            ORDER BY run_at, id
            LIMIT (SELECT %(look)s::bigint)
        ) AS job
        LIMIT %(look)s
    ), ends AS (
        SELECT job.id, job.type, lane.queue
        FROM lane CROSS JOIN LATERAL (
            (
                SELECT id, type
                FROM _ayb_jobs
                WHERE state = 'queued' AND queue = lane.queue AND priority = lane.priority AND run_at <= now()
                ORDER BY run_at, id
                LIMIT lane.share
            )
            UNION ALL
            (
                SELECT id, type
                FROM _ayb_jobs
                WHERE state = 'queued' AND queue = lane.queue AND priority = lane.priority AND run_at <= now()
                ORDER BY run_at DESC, id DESC
                LIMIT lane.share
            )
        ) AS job
        WHERE (SELECT count(*) FROM front) >= %(look)s
    )
"""
# A kept plan is to know how many lanes there are at most.
COUNT_UNCLAIMABLE: LiteralString = (
    DUE_BY_LANE.replace("%(lanes)s", "1000")
    + """    SELECT type, queue, count(*) AS jobs
    FROM (SELECT * FROM front UNION SELECT * FROM ends) AS seen
    WHERE NOT (type = ANY (%(types)s::text[]) AND queue = ANY (%(queues)s::text[]))
    GROUP BY type, queue
    ORDER BY jobs DESC, type, queue
    LIMIT 50
"""
)


def count_unclaimable(conn: Connection, *, types: Sequence[str], queues: Sequence[str]) -> Unclaimable:
    """Count the due jobs of other types or queues than these, looking at as many as `unclaimable_by_all`."""
    values = {"types": list(types), "queues": list(queues), "look": LOOK}
    found = Unclaimable({}, {})
    for row in named(conn).execute(COUNT_UNCLAIMABLE, values):
        counts, name = (found.queues, row.queue) if row.type in types else (found.types, row.type)
        counts[name] = counts.get(name, 0) + row.jobs
    return found


COUNT_UNCLAIMABLE_BY_ALL: LiteralString = f"""{DUE_BY_LANE}    SELECT type, queue, coalesce(jobs, 0) AS jobs, coalesce(sum(jobs) OVER (), 0)::bigint AS total, cut,
        EXISTS (
            SELECT FROM _ayb_job_workers AS daemon
            WHERE heartbeat_at BETWEEN now() - make_interval(secs => %(alive_s)s) AND now() + make_interval(secs => %(alive_s)s)
                AND daemon.drain_requested_at IS NULL AND waiting.type = ANY (daemon.types)
        ) AS is_known
    FROM (
        SELECT (SELECT count(*) FROM front) >= %(look)s OR EXISTS (SELECT FROM lanes OFFSET %(lanes)s) AS cut
    ) AS whole LEFT JOIN (
        SELECT type, queue, count(*) AS jobs
        FROM (SELECT * FROM front UNION SELECT * FROM ends) AS seen
        GROUP BY type, queue
    ) AS waiting ON NOT EXISTS (
        SELECT FROM _ayb_job_workers AS daemon
        WHERE heartbeat_at BETWEEN now() - make_interval(secs => %(alive_s)s) AND now() + make_interval(secs => %(alive_s)s)
            AND daemon.drain_requested_at IS NULL AND waiting.type = ANY (daemon.types) AND waiting.queue = ANY (daemon.queues)
    )
    ORDER BY jobs DESC, type, queue
    LIMIT %(named)s
"""


def unclaimable_by_all(conn: Connection, *, look: int = LOOK) -> Unclaimable:
    """Count the due jobs that no live daemon can run: all of them if up to `look` are due.

    If more are, it looks at the first `look`, and at half as many at the fronts and the ends of all lanes.
    """
    rows = _unclaimable_by_all(conn, look)
    found = Unclaimable({}, {}, rows[0].total, rows[0].cut)
    for row in rows:
        if row.jobs:
            counts, name = (found.queues, row.queue) if row.is_known else (found.types, row.type)
            counts[name] = counts.get(name, 0) + row.jobs
    return found


class UnclaimableTypes(NamedTuple):
    """How many due jobs no live daemon can run, by type; if `cut`, at least so many of at least these types."""

    by_type: dict[str, int]
    cut: bool


def unclaimable_jobs(conn: Connection) -> UnclaimableTypes:
    """Count, by type, the due jobs that no live daemon can run, as `unclaimable_by_all` does."""
    rows, counts = _unclaimable_by_all(conn, LOOK), dict[str, int]()
    for row in rows:
        if row.jobs:
            counts[row.type] = counts.get(row.type, 0) + row.jobs
    return UnclaimableTypes(counts, cut=rows[0].cut or rows[0].total > sum(counts.values()))


def _unclaimable_by_all(conn: Connection, look: int) -> list[Any]:
    """Return a row for each type and queue, or one of no job."""
    values = {"look": look, "lanes": MOST_LANES, "named": MOST_NAMED, "alive_s": ALIVE_S}
    return named(conn).execute(COUNT_UNCLAIMABLE_BY_ALL, values, prepare=False).fetchall()
