"""The limits that a file defines: made, changed, renamed and removed as it says, unless an operator changed them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ayb_jobs.errors import ConfigError, Conflict
from ayb_jobs.model.limits import NewLimit
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.limits import list_limits, refuse_taken, remove_limit, write_limit
from ayb_jobs.storage.fleet.pauses import LOCK_PAUSES
from ayb_jobs.storage.fleet.running_under import put_running_under

READ_DEFINITIONS = "SELECT name::text, definition FROM _ayb_job_limits WHERE definition IS NOT NULL"
# Whoever holds a limit's row keeps the start waiting, and nobody who pauses something meanwhile for longer than this.
SHORT_LOCK = "SELECT set_config('lock_timeout', '2s', true)"
LOCK_LIMITS = "SELECT FROM _ayb_job_limits ORDER BY name FOR UPDATE"


class Change(NamedTuple):
    """What the file wants of a limit of this name: to be `new`, if it names it, by another name than it `was`."""

    name: str
    new: NewLimit | None
    was: str | None = None


def follow_file(conn: Connection, defined: Sequence[NewLimit], *, by: str) -> list[str]:
    """Make the limits of a file that are missing, and change those that no operator has changed.

    A limit of the file before that has a type of one of them, and that this file does not name, has got another name,
    or is removed if several have become one. Nothing is locked unless something is to change. Returns the names of
    those that were made or changed. Raises `ConfigError` if one cannot be made.
    """
    if not any(_changes(conn, defined)):
        return []
    with conn.transaction():
        conn.execute(SHORT_LOCK)
        conn.execute(LOCK_PAUSES)
        conn.execute(LOCK_LIMITS)
        changes = list(_changes(conn, defined))
        for change in changes:
            _apply(conn, change, by=by)
        made = [change.new for change in changes if change.new is not None]
        # Once all are written: a type may have moved from one to another.
        _refuse_taken(conn, made)
        for new in made:
            put_running_under(conn, new.name)
    return [new.name for new in made]


def _changes(conn: Connection, defined: Sequence[NewLimit]) -> Iterator[Change]:
    """Yield what differs from the file: first what gives its types to another limit, then what is made or changed."""
    if not defined:
        return
    shipped: Mapping[str, Any] = dict(conn.execute(READ_DEFINITIONS).fetchall())
    held = {limit.new.name: limit.new for limit in list_limits(conn)}
    untouched = {name for name, new in held.items() if shipped.get(name) == new.definition()}
    fresh = [new for new in defined if new.name not in held]
    for name in sorted(untouched.difference(new.name for new in defined)):
        if heirs := [new for new in fresh if set(new.types) & set(held[name].types)]:
            yield Change(heirs[0].name, None, was=name)
            fresh.remove(heirs[0])
        elif any(set(new.types) & set(held[name].types) for new in defined):
            yield Change(name, None)
    for new in defined:
        if new.name not in held or (new.name in untouched and held[new.name].definition() != new.definition()):
            yield Change(new.name, new)


def _apply(conn: Connection, change: Change, *, by: str) -> None:
    if change.was is not None:
        _rename_limit(conn, change.was, change.name)
    elif change.new is None:
        remove_limit(conn, change.name)
    else:
        write_limit(conn, change.new, by=by, shipped=True)


def _refuse_taken(conn: Connection, made: Sequence[NewLimit]) -> None:
    for new in made:
        try:
            refuse_taken(conn, new)
        except Conflict as error:
            raise ConfigError([f"limits.{new.name}.types cannot be used: {error}"]) from error


RENAME_LIMIT = "UPDATE _ayb_job_limits SET name = %(new)s WHERE name = %(name)s"
RENAME_LIMIT_KEYS = "UPDATE _ayb_job_limit_keys SET limit_name = %(new)s WHERE limit_name = %(name)s"
# Left behind by plain SQL alone.
REMOVE_PAUSES_OF_NEW = "DELETE FROM _ayb_job_pauses WHERE kind = 'key' AND starts_with(name, %(new)s::text || '/')"
RENAME_PAUSES_OF_KEYS = """
    UPDATE _ayb_job_pauses
    SET id = DEFAULT, name = %(new)s::text || substr(name, length(%(name)s::text) + 1)
    WHERE kind = 'key' AND starts_with(name, %(name)s::text || '/')
"""


def _rename_limit(conn: Connection, name: str, new: str) -> None:
    """Give a limit another name, with what its rates have spent and the pauses of its keys."""
    values = {"name": name, "new": new}
    for statement in (RENAME_LIMIT, RENAME_LIMIT_KEYS, REMOVE_PAUSES_OF_NEW, RENAME_PAUSES_OF_KEYS):
        conn.execute(statement, values)
