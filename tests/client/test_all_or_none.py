"""A call that makes many jobs and fails makes none, whatever its connection commits by itself."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import django.db
import psycopg
import pytest
import sqlalchemy
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from ayb_jobs import Conflict, NewJob, Unique, enqueue_many, enqueue_many_async
from ayb_jobs.storage.database import Connection
from tests.client.connections import DRIVERS, Calling, by_asyncpg, calling, django_set_up, sqlalchemy_url

AUTOCOMMIT: dict[str, Any] = {"isolation_level": "AUTOCOMMIT", "poolclass": NullPool}
REJECTS = Unique(key="taken", on_conflict="reject")
# Each is made by a statement of its own; the last one fails, in the statement after theirs.
MIXED = [NewJob(type="plain"), NewJob(type="other", unique=Unique(key="free")), NewJob(type="a", unique=REJECTS)]
# The same, but no statement fails.
FINE = [NewJob(type="plain"), NewJob(type="b", unique=Unique(key="free")), NewJob(type="c", unique=REJECTS)]


def types(conn: Connection) -> list[str]:
    return [row[0] for row in conn.execute("SELECT type FROM _ayb_jobs ORDER BY 1").fetchall()]


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_call_that_fails_leaves_nothing_in_a_transaction_that_is_committed(
    driver: str, database_url: str, conn: Connection
) -> None:
    def calls(on: Calling) -> None:
        for _ in range(2):
            with pytest.raises(Conflict, match="the unique key is taken"):
                on.enqueue_many(MIXED)

    def calls_in_the_middle(on: Calling) -> None:
        on.enqueue(NewJob(type="before"))
        calls(on)
        on.enqueue_many([NewJob(type="after")])

    calling(driver, database_url, lambda on: on.enqueue(MIXED[-1]))
    calling(driver, database_url, calls)
    assert types(conn) == ["a"]
    calling(driver, database_url, calls_in_the_middle)
    assert types(conn) == ["a", "after", "before"]


@contextmanager
def _psycopg(url: str) -> Iterator[Any]:
    with psycopg.connect(url, autocommit=True) as conn:
        yield conn


@contextmanager
def _sqlalchemy(url: str) -> Iterator[Any]:
    with sqlalchemy.create_engine(sqlalchemy_url(url, "psycopg"), **AUTOCOMMIT).connect() as conn:
        yield conn


@contextmanager
def _session(url: str) -> Iterator[Any]:
    with Session(sqlalchemy.create_engine(sqlalchemy_url(url, "psycopg"), **AUTOCOMMIT)) as session:
        yield session


@contextmanager
def _django(url: str) -> Iterator[Any]:
    with django_set_up(url):
        yield django.db.connection


@asynccontextmanager
async def _psycopg_async(url: str) -> AsyncIterator[Any]:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as conn:
        yield conn


@asynccontextmanager
async def _sqlalchemy_async(url: str) -> AsyncIterator[Any]:
    async with create_async_engine(sqlalchemy_url(url, "asyncpg"), **AUTOCOMMIT).connect() as conn:
        yield conn


@asynccontextmanager
async def _async_session(url: str) -> AsyncIterator[Any]:
    async with AsyncSession(create_async_engine(sqlalchemy_url(url, "psycopg"), **AUTOCOMMIT)) as session:
        yield session


Jobs = list[NewJob]


def many(connection: Callable[[str], Any], url: str, jobs: Jobs) -> int:
    with connection(url) as conn:
        return enqueue_many(conn, jobs)


def many_async(connection: Callable[[str], Any], url: str, jobs: Jobs) -> int:
    async def made() -> int:
        async with connection(url) as conn:
            return await enqueue_many_async(conn, jobs)

    return asyncio.run(made())


@pytest.mark.parametrize(
    ("put", "connection"),
    [(many, each) for each in (_psycopg, _sqlalchemy, _session, _django)]
    + [(many_async, each) for each in (_psycopg_async, by_asyncpg, _sqlalchemy_async, _async_session)],
)
def test_a_call_that_fails_makes_nothing_if_each_statement_is_committed_by_itself(
    put: Callable[[Callable[[str], Any], str, Jobs], int],
    connection: Callable[[str], Any],
    database_url: str,
    conn: Connection,
    notified: Callable[[], int],
) -> None:
    assert put(connection, database_url, MIXED[-1:]) == 1
    notified()
    with pytest.raises(Conflict, match="the unique key is taken"):
        put(connection, database_url, MIXED)
    assert (types(conn), notified()) == (["a"], 0)
    assert put(connection, database_url, FINE) == 3
    assert (types(conn), notified()) == (["a", "b", "c", "plain"], 1)
