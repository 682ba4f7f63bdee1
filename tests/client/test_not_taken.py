"""What is said to whoever gives something else than a connection that is taken."""

import asyncio
import sqlite3
import subprocess
import sys
from typing import Any

import asyncpg
import psycopg
import psycopg_pool
import pytest
import sqlalchemy
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker

from ayb_jobs import InvalidInput, NewJob, NotTaken, enqueue, enqueue_async, enqueue_many, enqueue_many_async

JOB = NewJob(type="a")
PASSWORD = "postgresql://me:secret@host/db"
ENGINE = sqlalchemy.create_engine("postgresql+psycopg://nowhere/db")
ASYNC_ENGINE = create_async_engine("postgresql+asyncpg://nowhere/db")
MISTAKES = [
    (lambda: PASSWORD, "It was given a text; open a connection"),
    (lambda: ENGINE, "an engine; give a connection of it"),
    (lambda: ASYNC_ENGINE, "an engine; give a connection of it"),
    (lambda: sessionmaker(ENGINE), "a maker of sessions; give a session"),
    (lambda: async_sessionmaker(ASYNC_ENGINE), "a maker of sessions; give a session"),
    (lambda: psycopg_pool.ConnectionPool("", open=False), "a pool; give a connection of it: with pool.connection"),
    (lambda: psycopg_pool.AsyncConnectionPool("", open=False), "a pool; give a connection of it: async with"),
    (lambda: psycopg.Cursor.__new__(psycopg.Cursor), "a cursor; give its connection"),
    (lambda: psycopg.AsyncCursor.__new__(psycopg.AsyncCursor), "a cursor; give its connection"),
    (asyncpg.connect, "a coroutine; await it first"),
    (lambda: asyncpg.pool.Pool.__new__(asyncpg.pool.Pool), "a pool; give a connection of it: async with pool.acquire"),
    (lambda: None, "It was given None"),
    (lambda: sqlite3.Connection.__new__(sqlite3.Connection), "a Connection (sqlite3.Connection)"),
    (lambda: JOB, "a NewJob"),
]


@pytest.mark.parametrize(("made", "words"), MISTAKES, ids=[words[:30] for _, words in MISTAKES])
def test_a_mistake_is_told_in_words(made: Any, words: str) -> None:
    with pytest.raises(TypeError) as refused:
        enqueue(made(), JOB)
    assert isinstance(refused.value, InvalidInput)
    assert "this call takes a psycopg Connection, an SQLAlchemy Session or Connection, or Django's" in str(
        refused.value
    )
    assert words in str(refused.value)
    assert "secret" not in str(refused.value)
    with pytest.raises(
        NotTaken, match="takes a psycopg AsyncConnection, an asyncpg Connection, or an SQLAlchemy Async"
    ):
        asyncio.run(enqueue_async(made(), JOB))
    with pytest.raises(NotTaken):
        enqueue_many(made(), [JOB])
    with pytest.raises(NotTaken):
        asyncio.run(enqueue_many_async(made(), [JOB]))


@pytest.mark.parametrize("cls", [psycopg.AsyncConnection, asyncpg.Connection, AsyncSession, AsyncConnection])
def test_an_asynchronous_connection_is_to_be_awaited(cls: Any) -> None:
    mine: Any = type("Mine", (cls,), {"__del__": lambda _: None})
    conn = mine.__new__(mine)
    with pytest.raises(
        TypeError, match=r"an asynchronous connection \(.*\): await enqueue_async or enqueue_many_async"
    ):
        enqueue(conn, JOB)


@pytest.mark.parametrize("cls", [psycopg.Connection, Session, sqlalchemy.Connection])
def test_a_synchronous_connection_is_not_to_be_awaited(cls: Any) -> None:
    conn = cls.__new__(cls)
    with pytest.raises(
        TypeError, match=r"a synchronous connection \(.*\): call enqueue or enqueue_many, without await"
    ):
        asyncio.run(enqueue_async(conn, JOB))


def test_another_database_is_not_taken() -> None:
    with (
        sqlalchemy.create_engine("sqlite://").connect() as conn,
        pytest.raises(TypeError, match="to sqlite; the queue"),
    ):
        enqueue(conn, JOB)


def test_a_proxy_that_shows_its_objects_class_is_taken(database_url: str) -> None:
    class Proxy:
        def __init__(self, conn: Any) -> None:
            self._conn = conn

        @property  # type: ignore[misc] # a class by a property is what proxies have
        def __class__(self) -> Any:
            return psycopg.Connection

        def __getattr__(self, name: str) -> Any:
            return getattr(self._conn, name)

    with psycopg.connect(database_url) as conn:
        assert enqueue(Proxy(conn), JOB).created


def test_no_driver_is_imported() -> None:
    script = "import sys, ayb_jobs; ayb_jobs.enqueue, ayb_jobs.enqueue_async, ayb_jobs.NewJob; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    heavy = ("psycopg", "asyncpg", "sqlalchemy", "django", "pydantic", "structlog", "fastapi", "click", "croniter")
    assert [name for name in done.stdout.split() if name.partition(".")[0] in heavy] == []
