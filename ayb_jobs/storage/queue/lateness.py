"""What waits longest although a live daemon could run it, what was abandoned, and how much ends."""

from typing import NamedTuple

from psycopg.rows import class_row

from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.daemons import ALIVE_S
from ayb_jobs.storage.rows import one_row

MOST_PAUSES = 100


class Longest(NamedTuple):
    """The due job that has waited longest, those apart that are paused or under a limit.

    `busy` of the `slots` that its handler can have, in the daemons that serve its queue, are busy, or held by a handler
    that did not stop when told.
    """

    type: str
    queue: str
    waited_s: float
    kind: str
    slots: int
    busy: int


# Of the lanes whose first job has been due for longest, the first jobs are looked at: those that no live daemon can
# run, or that are paused, stand in nobody's way. What waits under a limit, in the lanes from 5 on, is not late.
FIND_LONGEST = """
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
    ), alive AS MATERIALIZED (
        SELECT id, concurrency, queues, types, isolated_types, isolated_slots, async_types, async_slots, stuck_slots,
            stuck_async_slots
        FROM _ayb_job_workers
        WHERE heartbeat_at BETWEEN now() - make_interval(secs => %(alive_s)s) AND now() + make_interval(secs => %(alive_s)s)
            AND drain_requested_at IS NULL
    ), paused AS MATERIALIZED (
        SELECT kind, name FROM _ayb_job_pauses WHERE until IS NULL OR until > now()
    ), longest AS (
        SELECT first.type, first.queue, first.run_at
        FROM (
            SELECT open.queue, open.priority
            FROM (
                SELECT queue, priority FROM lanes
                WHERE priority <= 4 AND NOT EXISTS (SELECT FROM paused WHERE kind = 'queue' AND name = lanes.queue)
                LIMIT 1000
            ) AS open CROSS JOIN LATERAL (
                SELECT run_at
                FROM _ayb_jobs
                WHERE state = 'queued' AND queue = open.queue AND priority = open.priority
                    AND run_at <= now() AND run_at > '-infinity'
                ORDER BY run_at
                LIMIT 1
            ) AS earliest
            ORDER BY earliest.run_at
            LIMIT 200
        ) AS lane
        CROSS JOIN LATERAL (
            SELECT front.type, lane.queue, front.run_at
            FROM (
                SELECT type, run_at
                FROM _ayb_jobs
                WHERE state = 'queued' AND queue = lane.queue AND priority = lane.priority
                    AND run_at <= now() AND run_at > '-infinity'
                ORDER BY run_at
                LIMIT 200
            ) AS front
            WHERE EXISTS (SELECT FROM alive WHERE lane.queue = ANY (alive.queues) AND front.type = ANY (alive.types))
                AND NOT EXISTS (SELECT FROM paused WHERE kind = 'type' AND name = front.type)
            ORDER BY front.run_at, front.type
            LIMIT 1
        ) AS first
        ORDER BY first.run_at, first.queue, first.type
        LIMIT 1
    )
    SELECT type, queue, extract(epoch FROM now() - run_at)::float8 AS waited_s,
        (
            SELECT CASE
                WHEN longest.type = ANY (isolated_types) THEN 'isolated'
                WHEN longest.type = ANY (async_types) THEN 'async'
                ELSE 'thread'
            END
            FROM alive
            WHERE longest.queue = ANY (queues) AND longest.type = ANY (types)
            LIMIT 1
        ) AS kind,
        (
            SELECT coalesce(sum(CASE
                WHEN longest.type = ANY (isolated_types) THEN isolated_slots
                WHEN longest.type = ANY (async_types) THEN async_slots
                ELSE concurrency
            END), 0)
            FROM alive
            WHERE longest.queue = ANY (queues) AND longest.type = ANY (types)
        )::bigint AS slots,
        (
            SELECT count(*)
            FROM _ayb_jobs AS job JOIN alive ON alive.id = job.worker_id
            WHERE longest.queue = ANY (alive.queues) AND longest.type = ANY (alive.types)
                AND job.state = 'running'
                AND coalesce(job.type = ANY (isolated_types), false) = coalesce(longest.type = ANY (isolated_types), false)
                AND coalesce(job.type = ANY (async_types), false) = coalesce(longest.type = ANY (async_types), false)
        ) + (
            SELECT coalesce(sum(CASE
                WHEN longest.type = ANY (isolated_types) THEN 0
                WHEN longest.type = ANY (async_types) THEN greatest(stuck_async_slots, 0)
                ELSE greatest(stuck_slots, 0)
            END), 0)
            FROM alive
            WHERE longest.queue = ANY (queues) AND longest.type = ANY (types)
        )::bigint AS busy
    FROM longest
"""


def find_longest(conn: Connection) -> Longest | None:
    """Return the due job that has waited longest for one of the daemons that could run it; None if none waits."""
    with conn.cursor(row_factory=class_row(Longest)) as cursor:
        return cursor.execute(FIND_LONGEST, {"alive_s": ALIVE_S}, prepare=False).fetchone()


class PausedJobs(NamedTuple):
    """A pause, how many due jobs wait for its end among the 10,000 at the front, and how long the first has.

    `cut` tells that not all due jobs were looked at: at least so many wait.
    """

    kind: str
    name: str
    paused_by: str
    since_s: float
    reason: str | None
    jobs: int
    waited_s: float
    cut: bool


# Each lane is walked by itself, so that jobs that are due later are not. The planner does not know the bound, as in
# MEASURE_LEVEL.
LIST_PAUSED_JOBS = """
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
    ), paused AS MATERIALIZED (
        SELECT kind, name, paused_by, paused_at, reason FROM _ayb_job_pauses WHERE until IS NULL OR until > now()
    ), front AS MATERIALIZED (
        SELECT job.type, lane.queue, job.key, job.run_at
        FROM (
            SELECT queue, priority FROM lanes WHERE EXISTS (SELECT FROM paused) LIMIT 1000
        ) AS lane CROSS JOIN LATERAL (
            SELECT type, limited_by || '/' || limited_key AS key, run_at
            FROM _ayb_jobs
            WHERE state = 'queued' AND queue = lane.queue AND priority = lane.priority
                AND run_at <= now() AND run_at > '-infinity'
            ORDER BY run_at, id
            LIMIT (SELECT 10000)
        ) AS job
        LIMIT 10000
    )
    SELECT kind, name, paused_by, reason,
        CASE WHEN isfinite(paused_at) THEN greatest(extract(epoch FROM now() - paused_at), 0) ELSE 0 END::float8 AS since_s,
        count(*) AS jobs, extract(epoch FROM now() - min(run_at))::float8 AS waited_s,
        EXISTS (SELECT FROM lanes OFFSET 1000) OR (SELECT count(*) FROM front) >= 10000 AS cut
    FROM paused JOIN front ON name = CASE kind WHEN 'queue' THEN queue WHEN 'type' THEN type WHEN 'key' THEN key END
    GROUP BY kind, name, paused_by, paused_at, reason
    ORDER BY min(run_at), kind, name
    LIMIT %(most)s
"""


def list_paused_jobs(conn: Connection) -> list[PausedJobs]:
    """Return the pauses for whose end due jobs wait, that of the job that has waited longest first."""
    with conn.cursor(row_factory=class_row(PausedJobs)) as cursor:
        return cursor.execute(LIST_PAUSED_JOBS, {"most": MOST_PAUSES}, prepare=False).fetchall()


class Abandoned(NamedTuple):
    """Running jobs whose leases ran out a while ago, and for how long the first has."""

    jobs: int
    since_s: float


COUNT_ABANDONED = """
    SELECT count(*) AS jobs, coalesce(extract(epoch FROM now() - min(lease_until)), 0)::float8 AS since_s
    FROM (
        SELECT lease_until
        FROM _ayb_jobs
        WHERE state = 'running' AND lease_until < now() - interval '30 seconds' AND isfinite(lease_until)
        LIMIT 10000
    ) AS abandoned
"""


def count_abandoned(conn: Connection) -> Abandoned:
    """Count the running jobs that nobody extends and that nobody has taken over for 30 s."""
    with conn.cursor(row_factory=class_row(Abandoned)) as cursor:
        return one_row(cursor.execute(COUNT_ABANDONED))


class Silent(NamedTuple):
    """How many daemons fell silent, for how long the last of them has been, and which that is."""

    daemons: int
    silent_s: float
    last: str


COUNT_SILENT = """
    SELECT count(*) AS daemons, coalesce(extract(epoch FROM now() - max(heartbeat_at)), 0)::float8 AS silent_s,
        coalesce((array_agg(id ORDER BY heartbeat_at DESC, id))[1], '') AS last
    FROM _ayb_job_workers
    WHERE heartbeat_at < now() - make_interval(secs => %(alive_s)s) AND heartbeat_at > now() - interval '1 day'
        AND version <> 'sql'
"""


def count_silent(conn: Connection) -> Silent:
    """Count the daemons that fell silent within a day without saying that they stop."""
    with conn.cursor(row_factory=class_row(Silent)) as cursor:
        return one_row(cursor.execute(COUNT_SILENT, {"alive_s": ALIVE_S}))


class Pace(NamedTuple):
    """How many attempts ended within the last minute, and whether there ever was a job."""

    ended: int
    any_job: bool


MEASURE_PACE = """
    SELECT
        (
            SELECT count(*)
            FROM (SELECT ended_at FROM _ayb_job_executions ORDER BY id DESC LIMIT %(most)s) AS newest
            WHERE ended_at > now() - interval '1 minute'
        ) AS ended,
        EXISTS (SELECT FROM _ayb_jobs) OR EXISTS (SELECT FROM _ayb_job_executions) AS any_job
"""


def measure_pace(conn: Connection, *, most: int) -> Pace:
    """Count what ended within the last minute among the `most` newest attempts."""
    with conn.cursor(row_factory=class_row(Pace)) as cursor:
        return one_row(cursor.execute(MEASURE_PACE, {"most": most}, prepare=False))
