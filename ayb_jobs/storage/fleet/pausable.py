"""The queues, types and keys as operators see them: what waits and runs in each, and what pauses it."""

from collections.abc import Mapping, Sequence
from typing import LiteralString, NamedTuple

from psycopg.rows import class_row

from ayb_jobs.model.pauses import Pausable, PauseKind
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.daemons import ALIVE_S
from ayb_jobs.storage.fleet.open_leases import READ_OPEN_BEFORE_PAUSES, read_behind
from ayb_jobs.storage.fleet.pauses import as_pause

# So many due jobs of one queue or key are counted, and of all types together; so many lanes are walked for types.
COUNTED = 10_000
MOST_LANES = 1000
MOST = 1000
# The queues are walked over by a loose scan of the index of queued jobs. Types have no index, and are counted among
# those that come first.
LIST_QUEUES = """
    WITH RECURSIVE waiting (name) AS (
        (SELECT queue FROM _ayb_jobs WHERE state = 'queued' ORDER BY queue LIMIT 1)
        UNION ALL
        SELECT (SELECT queue FROM _ayb_jobs WHERE state = 'queued' AND queue > waiting.name ORDER BY queue LIMIT 1)
        FROM waiting
        WHERE waiting.name IS NOT NULL
    ), first AS MATERIALIZED (
        SELECT name FROM waiting WHERE name IS NOT NULL LIMIT %(most)s + 1
    ), alive AS MATERIALIZED (
        SELECT id, host, pid, version, queues, pauses_confirmed
        FROM _ayb_job_workers
        WHERE heartbeat_at BETWEEN now() - make_interval(secs => %(alive_s)s) AND now() + make_interval(secs => %(alive_s)s)
    ), running AS MATERIALIZED (
        SELECT queue AS name, count(*) AS jobs FROM _ayb_jobs WHERE state = 'running' GROUP BY queue
    ), paused AS MATERIALIZED (
        SELECT * FROM _ayb_job_pauses WHERE kind = 'queue' AND (until IS NULL OR until > now())
    ), names AS (
        SELECT name FROM first
        UNION SELECT unnest(queues) FROM alive
        UNION SELECT name FROM running
        UNION SELECT name FROM paused
        UNION SELECT %(only)s::text
    )
    SELECT names.name,
        (
            SELECT count(*) FROM (
                SELECT FROM generate_series(1, 8) AS level (priority) CROSS JOIN LATERAL (
                    SELECT FROM _ayb_jobs AS job
                    WHERE job.state = 'queued' AND job.queue = names.name AND job.priority = level.priority
                        AND job.run_at <= now()
                    ORDER BY job.run_at, job.id
                    LIMIT %(counted)s
                ) AS in_lane LIMIT %(counted)s
            ) AS due
        ) AS due,
        coalesce((SELECT jobs FROM running WHERE running.name = names.name), 0) AS running,
        (SELECT count(*) FROM alive WHERE names.name = ANY (alive.queues)) AS daemons,
        paused.id, paused.reason, paused.paused_by, paused.paused_at, paused.until,
        ARRAY(
            SELECT format('%%s (pid %%s on %%s, version %%s)', alive.id, alive.pid, alive.host, alive.version)
            FROM alive WHERE paused.id > coalesce(alive.pauses_confirmed, -1) ORDER BY alive.id
        ) AS waiting_for,
        false AS cut
    FROM names LEFT JOIN paused ON paused.name = names.name
    WHERE names.name IS NOT NULL AND (%(only)s::text IS NULL OR names.name = %(only)s::text)
    ORDER BY names.name
    LIMIT %(most)s + 1
"""
# Each lane is walked by itself, so that jobs that are due later are not.
LIST_TYPES = """
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
        SELECT id, host, pid, version, types, pauses_confirmed
        FROM _ayb_job_workers
        WHERE heartbeat_at BETWEEN now() - make_interval(secs => %(alive_s)s) AND now() + make_interval(secs => %(alive_s)s)
    ), running AS MATERIALIZED (
        SELECT type AS name, count(*) AS jobs FROM _ayb_jobs WHERE state = 'running' GROUP BY type
    ), due AS MATERIALIZED (
        SELECT type AS name, count(*) AS jobs
        FROM (
            SELECT job.type
            FROM (SELECT queue, priority FROM lanes LIMIT %(lanes)s) AS lane CROSS JOIN LATERAL (
                SELECT type
                FROM _ayb_jobs
                WHERE state = 'queued' AND queue = lane.queue AND priority = lane.priority AND run_at <= now()
                ORDER BY run_at, id
                LIMIT %(counted)s
            ) AS job
            LIMIT %(counted)s
        ) AS front
        GROUP BY type
    ), paused AS MATERIALIZED (
        SELECT * FROM _ayb_job_pauses WHERE kind = 'type' AND (until IS NULL OR until > now())
    ), names AS (
        SELECT unnest(types) AS name FROM alive
        UNION SELECT name FROM running
        UNION SELECT name FROM due
        UNION SELECT name FROM paused
        UNION SELECT %(only)s::text
    )
    SELECT names.name,
        coalesce((SELECT jobs FROM due WHERE due.name = names.name), 0) AS due,
        coalesce((SELECT jobs FROM running WHERE running.name = names.name), 0) AS running,
        (SELECT count(*) FROM alive WHERE names.name = ANY (alive.types)) AS daemons,
        paused.id, paused.reason, paused.paused_by, paused.paused_at, paused.until,
        ARRAY(
            SELECT format('%%s (pid %%s on %%s, version %%s)', alive.id, alive.pid, alive.host, alive.version)
            FROM alive WHERE paused.id > coalesce(alive.pauses_confirmed, -1) ORDER BY alive.id
        ) AS waiting_for,
        (SELECT sum(jobs) FROM due) >= %(counted)s IS TRUE OR EXISTS (SELECT FROM lanes OFFSET %(lanes)s) AS cut
    FROM names LEFT JOIN paused ON paused.name = names.name
    WHERE names.name IS NOT NULL AND (%(only)s::text IS NULL OR names.name = %(only)s::text)
    ORDER BY names.name
    LIMIT %(most)s + 1
"""
# The keys that wait are walked over by a loose scan of the index of limited jobs.
LIST_KEYS = """
    WITH RECURSIVE waiting (limit_name, key) AS (
        (
            SELECT limited_by, limited_key FROM _ayb_jobs
            WHERE state = 'queued' AND limited_by IS NOT NULL AND limited_key IS NOT NULL
            ORDER BY limited_by, limited_key
            LIMIT 1
        )
        UNION ALL
        SELECT next.*
        FROM waiting CROSS JOIN LATERAL (
            SELECT limited_by, limited_key FROM _ayb_jobs
            WHERE state = 'queued' AND limited_by IS NOT NULL AND limited_key IS NOT NULL
                AND (limited_by, limited_key) > (waiting.limit_name, waiting.key)
            ORDER BY limited_by, limited_key
            LIMIT 1
        ) AS next
    ), first AS MATERIALIZED (
        SELECT limit_name, key FROM waiting LIMIT %(most)s + 1
    ), alive AS MATERIALIZED (
        SELECT id, host, pid, version, types, pauses_confirmed, limits_confirmed
        FROM _ayb_job_workers
        WHERE heartbeat_at BETWEEN now() - make_interval(secs => %(alive_s)s) AND now() + make_interval(secs => %(alive_s)s)
    ), running AS MATERIALIZED (
        SELECT limited_by AS limit_name, limited_key AS key, count(*) AS jobs
        FROM _ayb_jobs
        WHERE state = 'running' AND limited_by IS NOT NULL
        GROUP BY limited_by, limited_key
    ), paused AS MATERIALIZED (
        SELECT * FROM _ayb_job_pauses WHERE kind = 'key' AND (until IS NULL OR until > now())
    ), names AS (
        SELECT limit_name, key FROM first
        UNION SELECT limit_name, key FROM running
        UNION
        SELECT held.name, substr(given.name, length(held.name) + 2)
        FROM (SELECT name FROM paused UNION SELECT %(only)s::text) AS given
        JOIN _ayb_job_limits AS held ON starts_with(given.name, held.name || '/')
    )
    SELECT names.limit_name || '/' || names.key AS name,
        (
            SELECT count(*) FROM (
                SELECT FROM generate_series(5, 8) AS level (priority) CROSS JOIN LATERAL (
                    SELECT FROM _ayb_jobs AS job
                    WHERE job.state = 'queued' AND job.limited_by = names.limit_name AND job.limited_key = names.key
                        AND job.priority = level.priority AND job.run_at <= now()
                    LIMIT %(counted)s
                ) AS in_lane LIMIT %(counted)s
            ) AS due
        ) AS due,
        coalesce((SELECT jobs FROM running WHERE (running.limit_name, running.key) = (names.limit_name, names.key)), 0) AS running,
        (SELECT count(*) FROM alive WHERE alive.types && held.types::text[]) AS daemons,
        paused.id, paused.reason, paused.paused_by, paused.paused_at, paused.until,
        ARRAY(
            SELECT format('%%s (pid %%s on %%s, version %%s)', alive.id, alive.pid, alive.host, alive.version)
            FROM alive
            WHERE paused.id > coalesce(alive.pauses_confirmed, -1) OR held.id > coalesce(alive.limits_confirmed, -1)
            ORDER BY alive.id
        ) AS waiting_for,
        false AS cut
    FROM names
    LEFT JOIN _ayb_job_limits AS held ON held.name = names.limit_name
    LEFT JOIN paused ON paused.name = names.limit_name || '/' || names.key
    WHERE %(only)s::text IS NULL OR names.limit_name || '/' || names.key = %(only)s::text
    ORDER BY 1
    LIMIT %(most)s + 1
"""
LISTS: Mapping[PauseKind, LiteralString] = {
    PauseKind.QUEUE: LIST_QUEUES,
    PauseKind.TYPE: LIST_TYPES,
    PauseKind.KEY: LIST_KEYS,
}


class _Row(NamedTuple):
    name: str
    due: int
    running: int
    daemons: int
    id: int | None
    reason: str | None
    paused_by: str | None
    paused_at: object
    until: object
    waiting_for: Sequence[str]
    cut: bool


class Listed(NamedTuple):
    """The first queues, types or keys by name, and whether there are `more`."""

    first: Sequence[Pausable]
    more: bool


def list_pausable(conn: Connection, kind: PauseKind, *, only: str | None = None) -> Listed:
    """Return up to 1,000 queues, types or keys by name: those with jobs, that are served, or that are paused."""
    values = {"alive_s": ALIVE_S, "only": only, "most": MOST, "counted": COUNTED, "lanes": MOST_LANES}

    def read() -> list[_Row]:
        with conn.cursor(row_factory=class_row(_Row)) as cursor:
            return cursor.execute(LISTS[kind], values, prepare=False).fetchall()

    found = [_pausable(kind, row, leases) for row, leases in read_behind(conn, READ_OPEN_BEFORE_PAUSES, read)]
    return Listed(found[:MOST], more=len(found) > MOST)


def _pausable(kind: PauseKind, row: _Row, leases: Sequence[str]) -> Pausable:
    columns = {name: getattr(row, name) for name in ("name", "id", "reason", "paused_by", "paused_at", "until")}
    return Pausable(
        kind=kind,
        name=row.name,
        due=row.due,
        running=row.running,
        daemons=row.daemons,
        pause=None if row.id is None else as_pause(kind=kind, **columns),
        waiting_for=[*row.waiting_for, *leases],
        cut=row.cut or row.due >= COUNTED,
    )


def find_pausable(conn: Connection, kind: PauseKind, name: str) -> Pausable:
    """Return a queue, a type or a key as it is now, even if nothing is known of it."""
    nothing = Pausable(kind=kind, name=name, due=0, running=0, daemons=0, pause=None, waiting_for=())
    return next(iter(list_pausable(conn, kind, only=name).first), nothing)
