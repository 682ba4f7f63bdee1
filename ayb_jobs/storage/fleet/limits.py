"""Limits as operators set and see them, and as daemons watch and confirm them.

A daemon reads the limits in the statement that leases, so a limit holds for every look that begins after its commit,
unless the daemon believes that there are none: then it confirms once nothing of a limited type can start beside it.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from psycopg.rows import class_row

from ayb_jobs.errors import Conflict
from ayb_jobs.model.limits import Limit, NewLimit, rate_interval
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.daemons import ALIVE_S
from ayb_jobs.storage.fleet.lifelines import IS_LIFELESS
from ayb_jobs.storage.fleet.open_leases import READ_OPEN_BEFORE_LIMITS, read_behind
from ayb_jobs.storage.fleet.pauses import LOCK_PAUSES
from ayb_jobs.storage.fleet.running_under import put_running_under
from ayb_jobs.storage.rows import one_row

# So many jobs that wait under a limit are counted, and so many of one of its keys.
COUNTED = 10_000
COUNTED_OF_KEY = 1000

FIND_OTHER_LIMIT = """
    SELECT type, name::text
    FROM _ayb_job_limits CROSS JOIN unnest(types) AS type
    WHERE type = ANY (%(types)s::text[]) AND name <> %(name)s
    ORDER BY type
    LIMIT 1
"""
# What the rate has spent stays spent, but for no longer than the new rate asks for. Jobs of types that the limit had,
# and jobs that were left by a removed limit of its name, may wait under it.
SET_LIMIT = """
    INSERT INTO _ayb_job_limits AS held (name, types, key_field, max_running, key_max_running, rate, every, burst, key_rate,
        key_every, key_burst, definition, set_by, left_types)
    VALUES (%(name)s::text, %(types)s::text[], %(key_field)s, %(max_running)s, %(key_max_running)s, %(rate)s, %(every)s::interval,
        %(burst)s, %(key_rate)s, %(key_every)s::interval, %(key_burst)s, %(definition)s::jsonb, %(by)s,
        CASE WHEN EXISTS (SELECT FROM _ayb_job_limits WHERE name = %(name)s::text) THEN '{}' ELSE ARRAY(
            SELECT type FROM _ayb_jobs WHERE limited_by = %(name)s::text AND state = 'queued'
            UNION
            SELECT type FROM _ayb_jobs WHERE limited_by = %(name)s::text AND state = 'running'
            EXCEPT
            SELECT unnest(%(types)s::text[])
        ) END)
    ON CONFLICT (name) DO UPDATE
    SET id = DEFAULT, types = excluded.types, key_field = excluded.key_field, max_running = excluded.max_running,
        key_max_running = excluded.key_max_running, rate = excluded.rate, every = excluded.every, burst = excluded.burst,
        key_rate = excluded.key_rate, key_every = excluded.key_every, key_burst = excluded.key_burst,
        tat = CASE
            WHEN excluded.every IS NULL THEN '-infinity'
            ELSE least(held.tat, clock_timestamp() + excluded.burst * excluded.every)
        END,
        left_types = ARRAY(SELECT unnest(held.types || held.left_types) EXCEPT SELECT unnest(excluded.types)),
        definition = CASE WHEN %(shipped)s::boolean THEN excluded.definition ELSE held.definition END,
        set_by = excluded.set_by, set_at = now()
"""
NOTIFY_LIMITS = """
    SELECT CASE WHEN pg_notification_queue_usage() < 0.5 THEN pg_notify('ayb_jobs', 'limits')::text END
"""


def set_limit(conn: Connection, new: NewLimit, *, by: str) -> None:
    """Make a limit, or change the one of its name, in the transaction that `conn` is in.

    Raises `Conflict` if another limit has one of its types.
    """
    conn.execute(LOCK_PAUSES)
    refuse_taken(conn, new)
    write_limit(conn, new, by=by)
    put_running_under(conn, new.name)


def refuse_taken(conn: Connection, new: NewLimit) -> None:
    """Raise `Conflict` if another limit has a type of this one."""
    if found := conn.execute(FIND_OTHER_LIMIT, {"name": new.name, "types": list(new.types)}).fetchone():
        raise Conflict(f"the type {found[0]} has the limit {found[1]} already; a type has one at most")


def write_limit(conn: Connection, new: NewLimit, *, by: str, shipped: bool = False) -> None:
    """Write a limit, whatever types others have; what runs of its types is put under it by `put_running_under`.

    With `shipped`, it is remembered as what a file defines.
    """
    definition = new.definition()
    values = definition | {
        "name": new.name,
        "every": None if new.rate is None else rate_interval(new.rate, "rate"),
        "key_every": None if new.key_rate is None else rate_interval(new.key_rate, "key_rate"),
        "definition": json.dumps(definition) if shipped else None,
        "shipped": shipped,
        "by": by,
    }
    conn.execute(SET_LIMIT, values)
    conn.execute(NOTIFY_LIMITS)


REMOVE_LIMIT = "DELETE FROM _ayb_job_limits WHERE name = %(name)s"
REMOVE_LIMIT_KEYS = "DELETE FROM _ayb_job_limit_keys WHERE limit_name = %(name)s"
REMOVE_PAUSES_OF_KEYS = """
    DELETE FROM _ayb_job_pauses AS paused
    WHERE kind = 'key' AND starts_with(name, %(name)s || '/')
        AND NOT EXISTS (SELECT FROM _ayb_job_limits AS other WHERE starts_with(paused.name, other.name || '/'))
"""


def remove_limit(conn: Connection, name: str) -> bool:
    """Remove a limit and the pauses of its keys, in the transaction that `conn` is in; tell whether there was one.

    Daemons let go the jobs that wait under it.
    """
    conn.execute(LOCK_PAUSES)
    removed = conn.execute(REMOVE_LIMIT, {"name": name}).rowcount > 0
    conn.execute(REMOVE_LIMIT_KEYS, {"name": name})
    conn.execute(REMOVE_PAUSES_OF_KEYS, {"name": name})
    conn.execute(NOTIFY_LIMITS)
    return removed


# The starts that the rate of a limit `held` allows at once.
TOKENS = """
        CASE WHEN held.every IS NOT NULL THEN greatest(0, floor(
            extract(epoch FROM now() + held.burst * held.every - greatest(held.tat, now()))
            / extract(epoch FROM held.every)
        ))::int END
"""
LIST_LIMITS = f"""
    WITH alive AS MATERIALIZED (
        SELECT id, host, pid, version, limits_confirmed
        FROM _ayb_job_workers
        WHERE heartbeat_at BETWEEN now() - make_interval(secs => %(alive_s)s) AND now() + make_interval(secs => %(alive_s)s)
    )
    SELECT held.id, held.name::text, held.types::text[], held.key_field::text, held.max_running, held.key_max_running,
        held.rate::text, held.burst, held.key_rate::text, held.key_burst, held.set_by::text, held.set_at,
        (
            SELECT count(*) FROM (
                SELECT FROM _ayb_jobs AS job WHERE job.state = 'queued' AND job.limited_by = held.name LIMIT %(counted)s
            ) AS under
        ) AS waiting,
        (SELECT count(*) FROM _ayb_jobs AS job WHERE job.state = 'running' AND job.limited_by = held.name) AS running,
        {TOKENS} AS tokens,
        ARRAY(
            SELECT format('%%s (pid %%s on %%s, version %%s)', alive.id, alive.pid, alive.host, alive.version)
            FROM alive WHERE held.id > coalesce(alive.limits_confirmed, -1) ORDER BY alive.id
        ) AS waiting_for
    FROM _ayb_job_limits AS held
    WHERE %(only)s::text IS NULL OR held.name = %(only)s::text
    ORDER BY held.name
"""


class _Row(NamedTuple):
    id: int
    name: str
    types: Sequence[str]
    key_field: str | None
    max_running: int | None
    key_max_running: int | None
    rate: str | None
    burst: int
    key_rate: str | None
    key_burst: int
    set_by: str
    set_at: datetime
    waiting: int
    running: int
    tokens: int | None
    waiting_for: Sequence[str]


def list_limits(conn: Connection, *, only: str | None = None) -> list[Limit]:
    """Return the limits by name, or the one of a name."""
    values = {"alive_s": ALIVE_S, "only": only, "counted": COUNTED}

    def read() -> list[_Row]:
        with conn.cursor(row_factory=class_row(_Row)) as cursor:
            return cursor.execute(LIST_LIMITS, values, prepare=False).fetchall()

    return [
        Limit(
            new=NewLimit.stored(
                name=row.name, types=row.types, key_field=row.key_field, max_running=row.max_running,
                key_max_running=row.key_max_running, rate=row.rate, burst=row.burst, key_rate=row.key_rate,
                key_burst=row.key_burst,
            ),
            set_by=row.set_by, set_at=row.set_at, waiting=row.waiting, running=row.running, tokens=row.tokens,
            waiting_for=[*row.waiting_for, *leases], cut=row.waiting >= COUNTED,
        )
        for row, leases in read_behind(conn, READ_OPEN_BEFORE_LIMITS, read)
    ]  # fmt: skip


def find_limit(conn: Connection, name: str) -> Limit | None:
    """Return a limit; None if there is none of that name."""
    return next(iter(list_limits(conn, only=name)), None)


COUNT_UNCONFIRMED = f"""
    SELECT count(*)
    FROM _ayb_job_workers AS daemon
    WHERE heartbeat_at BETWEEN now() - make_interval(secs => %(alive_s)s) AND now() + make_interval(secs => %(alive_s)s)
        AND NOT ({IS_LIFELESS})
        AND coalesce(limits_confirmed, -1) < (SELECT coalesce(max(id), 0) FROM _ayb_job_limits)
"""


def count_unconfirmed(conn: Connection) -> int:
    """Return how many daemons have not confirmed all limits; those that are known to be dead do not count."""
    return int(one_row(conn.execute(COUNT_UNCONFIRMED, {"alive_s": ALIVE_S}))[0])


MOST_KEYS = 20


class LimitKey(NamedTuple):
    """A key of a limit of which jobs run: how many run, how many wait, up to 1,000, and how long the first has run."""

    key: str
    running: int
    waiting: int
    held_s: float | None


LIST_KEYS = """
    SELECT held.key, held.running, waiting.jobs AS waiting, held.held_s
    FROM (
        SELECT limited_key::text AS key, count(*) AS running,
            extract(epoch FROM now() - min(last_run_at) FILTER (WHERE isfinite(last_run_at)))::float8 AS held_s
        FROM _ayb_jobs
        WHERE state = 'running' AND limited_by = %(name)s
        GROUP BY limited_key
        ORDER BY count(*) DESC, limited_key
        LIMIT %(most)s
    ) AS held CROSS JOIN LATERAL (
        SELECT count(*) AS jobs
        FROM (
            SELECT FROM _ayb_jobs
            WHERE state = 'queued' AND limited_by = %(name)s AND limited_key = held.key
            LIMIT %(counted)s
        ) AS under
    ) AS waiting
    ORDER BY held.running DESC, held.key
"""


def list_keys(conn: Connection, name: str, *, most: int = MOST_KEYS) -> list[LimitKey]:
    """Return the keys of a limit of which jobs run, the fullest first."""
    values = {"name": name, "most": most, "counted": COUNTED_OF_KEY}
    with conn.cursor(row_factory=class_row(LimitKey)) as cursor:
        return cursor.execute(LIST_KEYS, values, prepare=False).fetchall()


class Watched(NamedTuple):
    """What a daemon sees of the limits: the types that have one, and the newest, and what it confirmed last.

    `any` tells whether there are limits, or jobs that wait under removed ones. `left` tells whether types were taken
    from one.
    """

    types: frozenset[str]
    any: bool
    newest: int
    confirmed: int | None
    left: bool


WATCH_LIMITS = """
    SELECT (SELECT array_agg(type) FROM _ayb_job_limits CROSS JOIN unnest(types) AS type),
        EXISTS (SELECT FROM _ayb_job_limits)
            OR EXISTS (SELECT FROM _ayb_jobs WHERE state = 'queued' AND limited_by IS NOT NULL),
        coalesce((SELECT max(id) FROM _ayb_job_limits), 0),
        (SELECT limits_confirmed FROM _ayb_job_workers WHERE id = %(worker_id)s),
        EXISTS (SELECT FROM _ayb_job_limits WHERE cardinality(left_types) > 0)
"""


def watch_limits(conn: Connection, *, worker_id: str) -> Watched:
    """Return what holds now, for one daemon."""
    found: Any = conn.execute(WATCH_LIMITS, {"worker_id": worker_id}).fetchone()
    types, *more = found
    return Watched(frozenset(types or ()), *more)


CONFIRM_LIMITS = "UPDATE _ayb_job_workers SET limits_confirmed = %(newest)s WHERE id = %(worker_id)s"


def confirm_limits(conn: Connection, *, worker_id: str, newest: int) -> None:
    """Say that a daemon starts nothing beside the limits, up to this one."""
    conn.execute(CONFIRM_LIMITS, {"worker_id": worker_id, "newest": newest})


COUNT_LIMITED = f"""
    SELECT held.name::text,
        (
            SELECT count(*) FROM (
                SELECT FROM _ayb_jobs AS job WHERE job.state = 'queued' AND job.limited_by = held.name LIMIT %(counted)s
            ) AS under
        ),
        (SELECT count(*) FROM _ayb_jobs AS job WHERE job.state = 'running' AND job.limited_by = held.name),
        {TOKENS}
    FROM _ayb_job_limits AS held
    ORDER BY held.name
    LIMIT %(most)s
"""


class LimitCounts(NamedTuple):
    """How many jobs wait under a limit, up to 10,000, how many run, and how many starts its rate allows, if any."""

    waiting: int
    running: int
    tokens: int | None


def count_limited(conn: Connection, *, most: int) -> dict[str, LimitCounts]:
    """Return the figures of the first `most` limits by name."""
    return {
        name: LimitCounts(*counts) for name, *counts in conn.execute(COUNT_LIMITED, {"most": most, "counted": COUNTED})
    }
