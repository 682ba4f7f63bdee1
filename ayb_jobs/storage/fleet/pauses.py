"""Pauses: written, watched and confirmed; and the queues and types as operators see them.

Leasing looks at `_ayb_job_pauses` in its own statement, so a pause holds for every look that begins after its commit. A
look under way may still lease, and buffers hold what was leased before: a daemon confirms a pause once it has given
that back.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from psycopg.rows import class_row, kwargs_row

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
    """Pause a queue or a type, in the transaction that `conn` is in. A pause of it that stands is replaced."""
    conn.execute(LOCK_PAUSES)
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
            WHERE paused.id > coalesce(alive.pauses_confirmed, -1)
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
    """Return which queues and types are paused now."""
    return frozenset((PauseKind(kind), name) for kind, name in conn.execute(PAUSED_NAMES))


FIND_PAUSE = """
    SELECT kind, name, id, reason, paused_by, paused_at, until
    FROM _ayb_job_pauses
    WHERE (until IS NULL OR until > now())
        AND (kind = 'queue' AND name = %(queue)s::text OR kind = 'type' AND name = %(type)s::text)
    ORDER BY kind
    LIMIT 1
"""


def find_pause(conn: Connection, *, queue: str, type: str) -> Pause | None:
    """Return what pauses the jobs of a type in a queue; None if nothing does."""
    with conn.cursor(row_factory=kwargs_row(as_pause)) as cursor:
        return cursor.execute(FIND_PAUSE, {"queue": queue, "type": type}).fetchone()


def as_pause(*, kind: str, **columns: Any) -> Pause:
    """Return a row of pauses as a pause."""
    return Pause(kind=PauseKind(kind), **columns)


class Watched(NamedTuple):
    """What a daemon sees of the pauses: those that hold, the seconds until one ends, and what it confirmed last."""

    queues: frozenset[str]
    types: frozenset[str]
    newest: int
    ends_s: float | None
    confirmed: int | None


# A pause until infinity, as plain SQL may write it, is one without an end.
WATCH_PAUSES = """
    SELECT array_agg(name) FILTER (WHERE kind = 'queue'), array_agg(name) FILTER (WHERE kind = 'type'),
        coalesce((SELECT max(id) FROM _ayb_job_pauses), 0),
        extract(epoch FROM min(until) FILTER (WHERE isfinite(until)) - now())::float8,
        (SELECT pauses_confirmed FROM _ayb_job_workers WHERE id = %(worker_id)s)
    FROM _ayb_job_pauses
    WHERE until IS NULL OR until > now()
"""


def watch_pauses(conn: Connection, *, worker_id: str) -> Watched:
    """Return what holds now, for one daemon."""
    queues, types, newest, ends_s, confirmed = conn.execute(WATCH_PAUSES, {"worker_id": worker_id}).fetchone() or (
        None, None, 0, None, None,
    )  # fmt: skip
    return Watched(frozenset(queues or ()), frozenset(types or ()), newest, ends_s, confirmed)


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
    """Return up to 1,000 queues or types by name: those with jobs, those that are served, those that are paused."""
    statement = LIST_QUEUES if kind is PauseKind.QUEUE else LIST_TYPES
    with conn.cursor(row_factory=class_row(_Row)) as cursor:
        rows = cursor.execute(statement, {"alive_s": ALIVE_S, "only": only}, prepare=False).fetchall()
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
    """Return a queue or a type as it is now, also if nothing is known of it."""
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
    """Return how many queues and types are paused, and for how long."""
    found = {PauseKind(kind): Paused(pauses, longest_s) for kind, pauses, longest_s in conn.execute(COUNT_PAUSES)}
    return {kind: found.get(kind, Paused()) for kind in PauseKind}
