"""A connection of each driver, and what may be asked of all of them alike."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import asyncpg
import django.conf
import psycopg
import sqlalchemy
from django.db import connections as djangos
from django.db.transaction import atomic
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from ayb_jobs import (
    Enqueued,
    JobState,
    NewJob,
    batch,
    batch_async,
    enqueue,
    enqueue_async,
    enqueue_many,
    enqueue_many_async,
    request_cancel,
    request_cancel_async,
)

# Runs on a connection within a transaction that is committed, and returns what it returns.
Calls = Callable[["Calling"], Any]


class Calling:
    """The calls on one connection, whether they are to be awaited or not."""

    def __init__(self, conn: Any, wait: Callable[[Awaitable[Any]], Any] | None = None) -> None:
        self.conn = conn
        self._wait = wait

    def enqueue(self, job: NewJob) -> Enqueued:
        made: Enqueued = self._wait(enqueue_async(self.conn, job)) if self._wait else enqueue(self.conn, job)
        return made

    def request_cancel(self, job_id: str) -> JobState:
        wait = self._wait
        became: JobState = wait(request_cancel_async(self.conn, job_id)) if wait else request_cancel(self.conn, job_id)
        return became

    def enqueue_many(self, jobs: Any) -> int:
        wait = self._wait
        made: int = wait(enqueue_many_async(self.conn, jobs)) if wait else enqueue_many(self.conn, jobs)
        return made

    def batch(self, jobs: Any, **values: Any) -> str:
        """Make a batch of these jobs, the first one by one, the others at once; return its id."""
        first, *others = jobs

        async def make() -> str:
            async with batch_async(self.conn, **values) as made:
                await made.enqueue(first)
                await made.enqueue_many(others)
            return made.id

        if self._wait:
            return str(self._wait(make()))
        with batch(self.conn, **values) as made:
            made.enqueue(first)
            made.enqueue_many(others)
        return made.id


class Rollback(Exception):
    """Ends a transaction without keeping what was done in it."""


def _psycopg(url: str) -> Any:
    return psycopg.connect(url, row_factory=dict_row)


@contextmanager
def _sqlalchemy(url: str) -> Iterator[Any]:
    engine = sqlalchemy.create_engine(sqlalchemy_url(url, "psycopg"), poolclass=NullPool)
    with engine.begin() as conn:
        yield conn


@contextmanager
def _session(url: str) -> Iterator[Any]:
    engine = sqlalchemy.create_engine(sqlalchemy_url(url, "psycopg"), poolclass=NullPool)
    with Session(engine) as session, session.begin():
        yield session


@contextmanager
def _django(url: str) -> Iterator[Any]:
    with django_set_up(url), atomic():
        yield django.db.connection


@contextmanager
def django_set_up(url: str) -> Iterator[None]:
    """Have Django's default connection lead to a database, for the time of the block."""
    parts = conninfo_to_dict(url)
    if not django.conf.settings.configured:
        databases = {"default": {"ENGINE": "django.db.backends.postgresql"}}
        django.conf.settings.configure(DATABASES=databases, LOGGING_CONFIG=None, USE_TZ=True)
        django.setup()
    settings = djangos["default"].settings_dict
    settings.update(NAME=parts["dbname"], USER=parts["user"], HOST=parts["host"], PORT=parts.get("port", ""))
    settings["PASSWORD"] = parts.get("password", "")
    try:
        yield
    finally:
        djangos["default"].close()


@asynccontextmanager
async def _psycopg_async(url: str) -> AsyncIterator[Any]:
    async with await psycopg.AsyncConnection.connect(url, row_factory=dict_row) as conn:
        yield conn


@asynccontextmanager
async def by_asyncpg(url: str) -> AsyncIterator[Any]:
    """A connection of asyncpg's, which commits each statement."""
    conn = await asyncpg.connect(**asyncpg_parts(url))
    try:
        yield conn
    finally:
        await conn.close()


@asynccontextmanager
async def _asyncpg(url: str) -> AsyncIterator[Any]:
    async with by_asyncpg(url) as conn:
        # As many applications do; ours must not be written as text within text.
        await conn.set_type_codec("jsonb", encoder=repr, decoder=eval, schema="pg_catalog")
        async with conn.transaction():
            yield conn


@asynccontextmanager
async def _asyncpg_pool(url: str) -> AsyncIterator[Any]:
    async with (
        asyncpg.create_pool(**asyncpg_parts(url), min_size=1, max_size=1) as pool,
        pool.acquire() as conn,
        conn.transaction(),
    ):
        yield conn


@asynccontextmanager
async def _sqlalchemy_async(url: str) -> AsyncIterator[Any]:
    engine = create_async_engine(sqlalchemy_url(url, "asyncpg"), poolclass=NullPool)
    async with engine.begin() as conn:
        yield conn


@asynccontextmanager
async def _async_session(url: str) -> AsyncIterator[Any]:
    engine = create_async_engine(sqlalchemy_url(url, "psycopg"), poolclass=NullPool)
    async with AsyncSession(engine) as session, session.begin():
        yield session


SYNC: dict[str, Callable[[str], Any]] = {
    "psycopg": _psycopg, "SQLAlchemy": _sqlalchemy, "SQLAlchemy session": _session, "Django": _django,
}  # fmt: skip
ASYNC: dict[str, Callable[[str], Any]] = {
    "psycopg async": _psycopg_async, "asyncpg": _asyncpg, "asyncpg pool": _asyncpg_pool,
    "SQLAlchemy async": _sqlalchemy_async, "SQLAlchemy async session": _async_session,
}  # fmt: skip
DRIVERS = [*SYNC, *ASYNC]


def calling(driver: str, url: str, calls: Calls) -> Any:
    """Do calls within one transaction of a driver's; `Rollback` ends it without a commit."""
    try:
        if driver in SYNC:
            with SYNC[driver](url) as conn:
                return calls(Calling(conn))
        return asyncio.run(_awaiting(driver, url, calls))
    except Rollback:
        return None


async def _awaiting(driver: str, url: str, calls: Calls) -> Any:
    loop = asyncio.get_running_loop()
    async with ASYNC[driver](url) as conn:

        def wait(asked: Awaitable[Any]) -> Any:
            return asyncio.run_coroutine_threadsafe(_awaited(asked), loop).result()

        return await asyncio.to_thread(calls, Calling(conn, wait))


async def _awaited(asked: Awaitable[Any]) -> Any:
    return await asked


def sqlalchemy_url(url: str, driver: str) -> sqlalchemy.URL:
    """Return an address as SQLAlchemy takes it."""
    parts = conninfo_to_dict(url)
    return sqlalchemy.URL.create(
        f"postgresql+{driver}",
        username=str(parts["user"]),
        database=str(parts["dbname"]),
        query={"host": str(parts["host"]), "port": str(parts.get("port", 5432))},
    )


def asyncpg_parts(url: str) -> dict[str, Any]:
    parts = conninfo_to_dict(url)
    return {
        "host": parts["host"], "port": parts.get("port", 5432), "user": parts["user"], "database": parts["dbname"],
    }  # fmt: skip
