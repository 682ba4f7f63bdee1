"""Which connections are taken, by the names of their classes, and what is wrong with others.

Names, not the classes themselves, so that no driver is imported. A subclass, a proxy that shows its object's class, and
whatever pools lend out are taken as well.
"""

import inspect
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, TypeVar

from ayb_jobs.client import async_drivers, sync_drivers
from ayb_jobs.client.async_drivers import AsyncDriver
from ayb_jobs.client.sync_drivers import SyncDriver
from ayb_jobs.errors import NotTaken
from ayb_jobs.model.values import named

Name = tuple[str, str]
D = TypeVar("D")

SYNC: Mapping[Name, type[SyncDriver]] = {
    ("psycopg", "Connection"): sync_drivers.Psycopg,
    ("sqlalchemy", "Connection"): sync_drivers.Sqlalchemy,
    ("sqlalchemy", "Session"): sync_drivers.SqlalchemySession,
    ("sqlalchemy", "scoped_session"): sync_drivers.SqlalchemySession,
    ("django", "BaseDatabaseWrapper"): sync_drivers.Django,
    ("django", "ConnectionProxy"): sync_drivers.Django,
}
ASYNC: Mapping[Name, type[AsyncDriver]] = {
    ("psycopg", "AsyncConnection"): async_drivers.Psycopg,
    ("asyncpg", "Connection"): async_drivers.Asyncpg,
    ("asyncpg", "PoolConnectionProxy"): async_drivers.Asyncpg,
    ("sqlalchemy", "AsyncConnection"): async_drivers.Sqlalchemy,
    ("sqlalchemy", "AsyncSession"): async_drivers.SqlalchemySession,
    ("sqlalchemy", "async_scoped_session"): async_drivers.SqlalchemySession,
}
SYNC_TAKEN = "a psycopg Connection, an SQLAlchemy Session or Connection, or Django's connection"
ASYNC_TAKEN = "a psycopg AsyncConnection, an asyncpg Connection, or an SQLAlchemy AsyncSession or AsyncConnection"
# What people give instead, and what to give.
MISTAKES: Mapping[Name, str] = {
    ("psycopg", "BaseCursor"): "a cursor; give its connection, cursor.connection",
    ("django", "CursorWrapper"): "a cursor; give django.db.connection",
    ("asyncpg", "Cursor"): "a cursor; give the connection",
    ("sqlalchemy", "Engine"): "an engine; give a connection of it: with engine.begin() as conn",
    ("sqlalchemy", "AsyncEngine"): "an engine; give a connection of it: async with engine.begin() as conn",
    ("sqlalchemy", "sessionmaker"): "a maker of sessions; give a session: with Session.begin() as session",
    ("sqlalchemy", "async_sessionmaker"): "a maker of sessions; give a session: async with Session.begin() as session",
    ("psycopg_pool", "ConnectionPool"): "a pool; give a connection of it: with pool.connection() as conn",
    ("psycopg_pool", "AsyncConnectionPool"): "a pool; give a connection of it: async with pool.connection() as conn",
    ("asyncpg", "Pool"): "a pool; give a connection of it: async with pool.acquire() as conn",
    ("django", "BaseConnectionHandler"): 'all of Django\'s connections; give one: connections["default"]',
    ("psycopg2", "connection"): "a connection of psycopg2's; use psycopg 3, or give SQLAlchemy's or Django's around it",
    ("builtins", "str"): "a text; open a connection, such as psycopg.connect(…), and give that",
    ("builtins", "bytes"): "a text; open a connection, such as psycopg.connect(…), and give that",
    ("builtins", "coroutine"): "a coroutine; await it first, and give what comes of it",
}


def sync_driver(conn: Any) -> SyncDriver:
    """Return what sends statements on a connection; raises `NotTaken`, a `TypeError`, which says what is taken."""
    driver = _sync_of(conn.__class__)
    if driver is None:
        other = "await enqueue_async or enqueue_many_async" if _async_of(conn.__class__) else None
        raise _not_taken(conn, SYNC_TAKEN, other)
    return driver(conn)


def async_driver(conn: Any) -> AsyncDriver:
    """Return what sends statements on an asynchronous connection; raises as `sync_driver` does."""
    driver = _async_of(conn.__class__)
    if driver is None:
        other = "call enqueue or enqueue_many, without await" if _sync_of(conn.__class__) else None
        raise _not_taken(conn, ASYNC_TAKEN, other)
    return driver(conn)


@lru_cache(maxsize=64)
def _sync_of(cls: type) -> type[SyncDriver] | None:
    return _find(SYNC, cls)


@lru_cache(maxsize=64)
def _async_of(cls: type) -> type[AsyncDriver] | None:
    return _find(ASYNC, cls)


def _find(known: Mapping[Name, D], cls: type) -> D | None:
    return next((known[name] for name in _names(cls) if name in known), None)


def _names(cls: type) -> Iterator[Name]:
    """Yield the package and the name of a class and of those that it is derived from."""
    for base in cls.__mro__:
        yield base.__module__.partition(".")[0], base.__name__


def _not_taken(conn: Any, taken: str, other_call: str | None) -> NotTaken:
    if inspect.iscoroutine(conn):
        conn.close()  # or Python would warn, too, that it was never awaited
    if other_call:
        kind = "an asynchronous" if "await " in other_call else "a synchronous"
        found = f"{kind} connection ({_shown(conn.__class__)}): {other_call}"
    else:
        other = "None" if conn is None else f"{named(conn)} ({_shown(conn.__class__)})"
        found = _find(MISTAKES, conn.__class__) or other
    return NotTaken(f"this call takes {taken}. It was given {found}", field="conn")


def _shown(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
