"""Pauses: written, watched and confirmed; and the queues, types and keys as operators see them.

Leasing looks at `_ayb_job_pauses` in its own statement, so a pause holds for every look that begins after its commit. A
look under way may still lease, and buffers hold what was leased before: a daemon confirms a pause once it has
released that. No look under way leases a key that is paused: both need its limit's row.
"""

from collections.abc import Mapping, Sequence
from typing import Any, LiteralString, NamedTuple

from psycopg.rows import class_row, kwargs_row

from ayb_jobs.errors import NotFound
from ayb_jobs.model.pauses import NewPause, Pausable, Pause, PauseKind
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.daemons import ALIVE_S
from ayb_jobs.storage.rows import one_row

# Transactions with leases of workers in other languages, which nobody sees before they are committed: all that began
# before a pause or a limit `{row}` was made. Each holds a lock whose number is that of the newest it obeys.
OPEN_LEASES = """
        ARRAY(
            SELECT format('a transaction that has leased and is not committed (pid %%s)', open.pid)
            FROM pg_catalog.pg_locks AS open
            WHERE open.locktype = 'advisory' AND open.objsubid = 2 AND open.granted
                AND open.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
                AND open.classid = {row}.tableoid AND open.objid::bigint < {row}.id
            ORDER BY open.pid
        )
"""
OPEN_BEFORE_PAUSE = OPEN_LEASES.replace("{row}", "paused")

# Each lease under a limit that commits before this lock is had is seen by whoever reads behind it.
LOCK_LIMIT_OF_KEY = "SELECT FROM _ayb_job_limits WHERE starts_with(%(name)s::text, name || '/') FOR NO KEY UPDATE"
LOCK_PAUSES = "LOCK TABLE _ayb_job_pauses IN SHARE ROW EXCLUSIVE MODE"
DROP_OLD = "DELETE FROM _ayb_job_pauses WHERE until <= now() OR (kind = %(kind)s AND name = %(name)s)"
PAUSE = """
    INSERT INTO _ayb_job_pauses (kind, name, reason, paused_by, until)
    VALUES (%(kind)s, %(name)s, %(reason)s, %(by)s, %(until)s)
    RETURNING kind, name, id, reason, paused_by, paused_at, until
"""
NOTIFY_PAUSES = """
    SELECT CASE WHEN pg_notification_queue_usage() < 0.5 THEN pg_notify('ayb_jobs', 'pauses')::text END
"""


def pause(conn: Connection, new: NewPause, *, by: str) -> Pause:
    """Pause a queue, a type or a key, in the transaction that `conn` is in. A pause of it that stands is replaced.

    Raises `NotFound` for a key if there is no such limit.
    """
    conn.execute(LOCK_PAUSES)
    if new.kind is PauseKind.KEY and not conn.execute(LOCK_LIMIT_OF_KEY, {"name": new.name}).rowcount:
        raise NotFound(f"there is no limit whose key is {new.name}")
    conn.execute(DROP_OLD, {"kind": new.kind, "name": new.name})
    values = {"kind": new.kind, "name": new.name, "reason": new.reason, "by": by, "until": new.until}
    with conn.cursor(row_factory=kwargs_row(as_pause)) as cursor:
        made = one_row(cursor.execute(PAUSE, values))
    conn.execute(NOTIFY_PAUSES)
    return made


RESUME = """
    WITH resumed AS (
        DELETE FROM _ayb_job_pauses
        WHERE kind = %(kind)s AND name = %(name)s
        RETURNING kind, name, id, reason, paused_by, paused_at, until, until > now() OR until IS NULL AS holds
    )
    SELECT kind, name, id, reason, paused_by, paused_at, until FROM resumed WHERE holds
"""


def resume(conn: Connection, kind: PauseKind, name: str) -> Pause | None:
    """End a pause, in the transaction that `conn` is in, and return it; None if there was none."""
    with conn.cursor(row_factory=kwargs_row(as_pause)) as cursor:
        ended = cursor.execute(RESUME, {"kind": kind, "name": name}).fetchone()
    conn.execute(NOTIFY_PAUSES)
    return ended


LIST_PAUSES = """
    SELECT kind, name, id, reason, paused_by, paused_at, until
    FROM _ayb_job_pauses
    WHERE until IS NULL OR until > now()
    ORDER BY kind, name
"""


def list_pauses(conn: Connection) -> list[Pause]:
    """Return the pauses that hold now."""
    with conn.cursor(row_factory=kwargs_row(as_pause)) as cursor:
        return cursor.execute(LIST_PAUSES).fetchall()


LIST_UNCONFIRMED = f"""
    SELECT paused.kind, paused.name, missing.told
    FROM _ayb_job_pauses AS paused
    CROSS JOIN LATERAL (
        SELECT ARRAY(
            SELECT alive.id::text
            FROM _ayb_job_workers AS alive
            WHERE (
                    paused.id > coalesce(alive.pauses_confirmed, -1)
                    OR paused.kind = 'key' AND coalesce(alive.limits_confirmed, -1) < (
                        SELECT max(id) FROM _ayb_job_limits AS held WHERE starts_with(paused.name, held.name || '/')
                    )
                )
                AND alive.heartbeat_at BETWEEN now() - make_interval(secs => %(alive_s)s) AND now() + make_interval(secs => %(alive_s)s)
            ORDER BY alive.id
        ) || {OPEN_BEFORE_PAUSE} AS told
    ) AS missing
    WHERE (paused.until IS NULL OR paused.until > now()) AND cardinality(missing.told) > 0
"""


def list_unconfirmed(conn: Connection) -> dict[tuple[PauseKind, str], list[str]]:
    """Return what keeps a pause from being in force, by what is paused: live daemons, and leases not yet committed."""
    rows = conn.execute(LIST_UNCONFIRMED, {"alive_s": ALIVE_S})
    return {(PauseKind(kind), name): told for kind, name, told in rows}


PAUSED_NAMES = "SELECT kind, name FROM _ayb_job_pauses WHERE until IS NULL OR until > now()"


def paused_names(conn: Connection) -> frozenset[tuple[PauseKind, str]]:
    """Return which queues, types and keys are paused now."""
    return frozenset((PauseKind(kind), name) for kind, name in conn.execute(PAUSED_NAMES))


FIND_PAUSE = """
    SELECT kind, name, id, reason, paused_by, paused_at, until
    FROM _ayb_job_pauses
    WHERE (until IS NULL OR until > now())
        AND (kind, name) IN (('queue', %(queue)s::text), ('type', %(type)s::text), ('key', %(key)s::text))
    ORDER BY kind = 'key', kind
    LIMIT 1
"""


def find_pause(conn: Connection, *, queue: str, type: str, key: str | None = None) -> Pause | None:
    """Return what pauses the jobs of a type in a queue, or of the key of that name; None if nothing does."""
    with conn.cursor(row_factory=kwargs_row(as_pause)) as cursor:
        return cursor.execute(FIND_PAUSE, {"queue": queue, "type": type, "key": key}).fetchone()


def as_pause(*, kind: str, **columns: Any) -> Pause:
    """Return a row of pauses as a pause."""
    return Pause(kind=PauseKind(kind), **columns)


class Watched(NamedTuple):
    """What a daemon sees of the pauses: those that hold, the seconds until one ends, and what it confirmed last.

    `leases` are its own of keys that are paused, all from before the pause.
    """

    queues: frozenset[str]
    types: frozenset[str]
    keys: frozenset[str]
    leases: frozenset[str]
    newest: int
    ends_s: float | None
    confirmed: int | None


# A pause until infinity, as plain SQL may write it, is one without an end.
WATCH_PAUSES = """
    SELECT array_agg(name) FILTER (WHERE kind = 'queue'), array_agg(name) FILTER (WHERE kind = 'type'),
        array_agg(name) FILTER (WHERE kind = 'key'),
        ARRAY(
            SELECT job.lease_id::text
            FROM _ayb_job_pauses AS paused JOIN _ayb_job_limits AS held ON starts_with(paused.name, held.name || '/')
            JOIN _ayb_jobs AS job ON job.state = 'running' AND job.limited_by = held.name
                AND job.limited_key = substr(paused.name, length(held.name) + 2)
            WHERE paused.kind = 'key' AND (paused.until IS NULL OR paused.until > now())
                AND job.worker_id = %(worker_id)s AND job.lease_id IS NOT NULL
        ),
        coalesce((SELECT max(id) FROM _ayb_job_pauses), 0),
        extract(epoch FROM min(until) FILTER (WHERE isfinite(until)) - now())::float8,
        (SELECT pauses_confirmed FROM _ayb_job_workers WHERE id = %(worker_id)s)
    FROM _ayb_job_pauses
    WHERE until IS NULL OR until > now()
"""


def watch_pauses(conn: Connection, *, worker_id: str) -> Watched:
    """Return what holds now, for one daemon."""
    row = one_row(conn.execute(WATCH_PAUSES, {"worker_id": worker_id}))
    queues, types, keys, leases = (frozenset(names or ()) for names in row[:4])
    return Watched(queues, types, keys, leases, *row[4:])


CONFIRM_PAUSES = "UPDATE _ayb_job_workers SET pauses_confirmed = %(newest)s WHERE id = %(worker_id)s"


def confirm_pauses(conn: Connection, *, worker_id: str, newest: int) -> None:
    """Say that a daemon holds nothing unstarted of what is paused, up to this pause."""
    conn.execute(CONFIRM_PAUSES, {"worker_id": worker_id, "newest": newest})


# The queues are walked over by a loose scan of the index of queued jobs. Types have no index, and are counted among
# those that come first.
LIST_QUEUES = f"""
    WITH RECURSIVE waiting (name) AS (
        (SELECT queue FROM _ayb_jobs WHERE state = 'queued' ORDER BY queue LIMIT 1)
        UNION ALL
        SELECT (SELECT queue FROM _ayb_jobs WHERE state = 'queued' AND queue > waiting.name ORDER BY queue LIMIT 1)
        FROM waiting
        WHERE waiting.name IS NOT NULL
    ), first AS MATERIALIZED (
        SELECT name FROM waiting WHERE name IS NOT NULL LIMIT 1000
    ), alive AS MATERIALIZED (
        SELECT id, host, pid, version, queues, pauses_confirmed
        FROM _ayb_job_workers
        WHERE heartbeat_at BETWEEN now() - make_interval(secs => %(alive_s)s) AND now() + make_interval(secs => %(alive_s)s)
    ), running AS MATERIALIZED (
        SELECT queue AS name, count(*) AS jobs FROM _ayb_jobs WHERE state = 'running' GROUP BY queue
    ), paused AS MATERIALIZED (
        SELECT *, tableoid FROM _ayb_job_pauses WHERE kind = 'queue' AND (until IS NULL OR until > now())
    ), names AS (
        SELECT name FROM first
        UNION SELECT unnest(queues) FROM alive
        UNION SELECT name FROM running
        UNION SELECT name FROM paused
    )
    SELECT names.name,
        (
            SELECT count(*) FROM (
                SELECT FROM generate_series(1, 8) AS level (priority) CROSS JOIN LATERAL (
                    SELECT FROM _ayb_jobs AS job
                    WHERE job.state = 'queued' AND job.queue = names.name AND job.priority = level.priority
                        AND job.run_at <= now()
                    ORDER BY job.run_at, job.id
                    LIMIT 10000
                ) AS in_lane LIMIT 10000
            ) AS due
        ) AS due,
        coalesce((SELECT jobs FROM running WHERE running.name = names.name), 0) AS running,
        (SELECT count(*) FROM alive WHERE names.name = ANY (alive.queues)) AS daemons,
        paused.id, paused.reason, paused.paused_by, paused.paused_at, paused.until,
        ARRAY(
            SELECT format('%%s (pid %%s on %%s, version %%s)', alive.id, alive.pid, alive.host, alive.version)
            FROM alive WHERE paused.id > coalesce(alive.pauses_confirmed, -1) ORDER BY alive.id
        ) || {OPEN_BEFORE_PAUSE} AS waiting_for
    FROM names LEFT JOIN paused ON paused.name = names.name
    WHERE names.name IS NOT NULL AND (%(only)s::text IS NULL OR names.name = %(only)s::text)
    ORDER BY names.name
    LIMIT 1000
"""
# Each lane is walked by itself, so that jobs that are due later are not.
LIST_TYPES = f"""
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
            FROM (SELECT queue, priority FROM lanes LIMIT 1000) AS lane CROSS JOIN LATERAL (
                SELECT type
                FROM _ayb_jobs
                WHERE state = 'queued' AND queue = lane.queue AND priority = lane.priority AND run_at <= now()
                ORDER BY run_at, id
                LIMIT 10000
            ) AS job
            LIMIT 10000
        ) AS front
        GROUP BY type
    ), paused AS MATERIALIZED (
        SELECT *, tableoid FROM _ayb_job_pauses WHERE kind = 'type' AND (until IS NULL OR until > now())
    ), names AS (
        SELECT unnest(types) AS name FROM alive
        UNION SELECT name FROM running
        UNION SELECT name FROM due
        UNION SELECT name FROM paused
    )
    SELECT names.name,
        coalesce((SELECT jobs FROM due WHERE due.name = names.name), 0) AS due,
        coalesce((SELECT jobs FROM running WHERE running.name = names.name), 0) AS running,
        (SELECT count(*) FROM alive WHERE names.name = ANY (alive.types)) AS daemons,
        paused.id, paused.reason, paused.paused_by, paused.paused_at, paused.until,
        ARRAY(
            SELECT format('%%s (pid %%s on %%s, version %%s)', alive.id, alive.pid, alive.host, alive.version)
            FROM alive WHERE paused.id > coalesce(alive.pauses_confirmed, -1) ORDER BY alive.id
        ) || {OPEN_BEFORE_PAUSE} AS waiting_for
    FROM names LEFT JOIN paused ON paused.name = names.name
    WHERE names.name IS NOT NULL AND (%(only)s::text IS NULL OR names.name = %(only)s::text)
    ORDER BY names.name
    LIMIT 1000
"""
# The keys that wait are walked over by a loose scan of the index of limited jobs.
LIST_KEYS = f"""
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
        SELECT limit_name, key FROM waiting LIMIT 1000
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
        SELECT *, tableoid FROM _ayb_job_pauses WHERE kind = 'key' AND (until IS NULL OR until > now())
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
                    LIMIT 10000
                ) AS in_lane LIMIT 10000
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
        ) || {OPEN_BEFORE_PAUSE} AS waiting_for
    FROM names
    LEFT JOIN _ayb_job_limits AS held ON held.name = names.limit_name
    LEFT JOIN paused ON paused.name = names.limit_name || '/' || names.key
    WHERE %(only)s::text IS NULL OR names.limit_name || '/' || names.key = %(only)s::text
    ORDER BY 1
    LIMIT 1000
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


def list_pausable(conn: Connection, kind: PauseKind, *, only: str | None = None) -> list[Pausable]:
    """Return up to 1,000 queues, types or keys by name: those with jobs, that are served, or that are paused."""
    with conn.cursor(row_factory=class_row(_Row)) as cursor:
        rows = cursor.execute(LISTS[kind], {"alive_s": ALIVE_S, "only": only}, prepare=False).fetchall()
    return [_pausable(kind, row) for row in rows]


def _pausable(kind: PauseKind, row: _Row) -> Pausable:
    columns = {name: getattr(row, name) for name in ("name", "id", "reason", "paused_by", "paused_at", "until")}
    return Pausable(
        kind=kind,
        name=row.name,
        due=row.due,
        running=row.running,
        daemons=row.daemons,
        pause=None if row.id is None else as_pause(kind=kind, **columns),
        waiting_for=row.waiting_for,
    )


def find_pausable(conn: Connection, kind: PauseKind, name: str) -> Pausable:
    """Return a queue, a type or a key as it is now, even if nothing is known of it."""
    nothing = Pausable(kind=kind, name=name, due=0, running=0, daemons=0, pause=None, waiting_for=())
    return next(iter(list_pausable(conn, kind, only=name)), nothing)


COUNT_PAUSES = """
    SELECT kind, count(*), extract(epoch FROM now() - min(paused_at))::float8
    FROM _ayb_job_pauses
    WHERE until IS NULL OR until > now()
    GROUP BY kind
"""


class Paused(NamedTuple):
    """How many pauses hold, and how long ago the oldest of them began."""

    pauses: int = 0
    longest_s: float = 0.0


def count_pauses(conn: Connection) -> dict[PauseKind, Paused]:
    """Return how many queues, types and keys are paused, and for how long."""
    found = {PauseKind(kind): Paused(pauses, longest_s) for kind, pauses, longest_s in conn.execute(COUNT_PAUSES)}
    return {kind: found.get(kind, Paused()) for kind in PauseKind}
