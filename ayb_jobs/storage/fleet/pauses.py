"""Pauses: written, watched and confirmed. `pausable` has the queues, types and keys as operators see them.

Leasing looks at `_ayb_job_pauses` in its own statement, so a pause holds for every look that begins after its commit. A
look under way may still lease, and buffers hold what was leased before: a daemon confirms a pause once it has
released that. No look under way leases a key that is paused: both need its limit's row.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from psycopg.rows import class_row, kwargs_row

from ayb_jobs.errors import InvalidInput, NotFound
from ayb_jobs.model.instants import instant_text
from ayb_jobs.model.pauses import NewPause, Pause, PauseKind
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.daemons import ALIVE_S
from ayb_jobs.storage.fleet.open_leases import READ_OPEN_BEFORE_PAUSES, read_behind
from ayb_jobs.storage.rows import one_row

# Each lease under a limit that commits before this lock is had is seen by whoever reads behind it.
# Whoever locks several limits does so by name, or they could wait for each other in a circle.
LOCK_LIMIT_OF_KEY = """
    SELECT FROM _ayb_job_limits WHERE starts_with(%(name)s::text, name || '/') ORDER BY name FOR NO KEY UPDATE
"""
LOCK_PAUSES = "LOCK TABLE _ayb_job_pauses IN SHARE ROW EXCLUSIVE MODE"
IS_OVER = "SELECT %(until)s::timestamptz <= clock_timestamp()"
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

    Raises `NotFound` for a key if there is no such limit, and `InvalidInput` if it is to end before it begins.
    """
    conn.execute(LOCK_PAUSES)
    if new.until is not None and one_row(conn.execute(IS_OVER, {"until": new.until}))[0]:
        raise InvalidInput(f"until is {instant_text(new.until)}, which is over; name a later time", field="until")
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


LIST_UNCONFIRMED = """
    SELECT paused.kind, paused.name, paused.id, ARRAY(
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
    ) AS daemons
    FROM _ayb_job_pauses AS paused
    WHERE paused.until IS NULL OR paused.until > now()
"""


class _Unconfirmed(NamedTuple):
    kind: str
    name: str
    id: int
    daemons: Sequence[str]


def list_unconfirmed(conn: Connection) -> dict[tuple[PauseKind, str], list[str]]:
    """Return what keeps a pause from being in force, by what is paused: live daemons, and leases not yet committed."""

    def read() -> list[_Unconfirmed]:
        with conn.cursor(row_factory=class_row(_Unconfirmed)) as cursor:
            return cursor.execute(LIST_UNCONFIRMED, {"alive_s": ALIVE_S}).fetchall()

    found = read_behind(conn, READ_OPEN_BEFORE_PAUSES, read)
    return {(PauseKind(row.kind), row.name): told for row, leases in found if (told := [*row.daemons, *leases])}


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


COUNT_PAUSES = """
    SELECT kind, count(*), greatest(extract(epoch FROM now() - min(paused_at) FILTER (WHERE isfinite(paused_at))), 0)::float8
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
