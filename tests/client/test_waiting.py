"""Waiting for a job on a connection of each driver: what comes of it, and that nothing is left on the connection."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from typing import Any

import asyncpg
import django.db
import psycopg
import pytest
import sqlalchemy
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import NullPool

from ayb_jobs import InvalidInput, JobCanceled, JobFailed, NotFound, WaitTimedOut, wait_for, wait_for_async
from ayb_jobs.client import ends
from ayb_jobs.storage.database import Connection, connect
from tests.client.connections import asyncpg_parts, by_asyncpg, django_set_up, sqlalchemy_url
from tests.eventually import eventually
from tests.factories import make_job
from tests.pgbouncer import PgBouncer


@contextmanager
def _sqlalchemy(url: str) -> Iterator[Any]:
    with sqlalchemy.create_engine(sqlalchemy_url(url, "psycopg"), poolclass=NullPool).connect() as conn:
        yield conn


@contextmanager
def _session(url: str) -> Iterator[Any]:
    with Session(sqlalchemy.create_engine(sqlalchemy_url(url, "psycopg"), poolclass=NullPool)) as session:
        yield session


@contextmanager
def _scoped(url: str) -> Iterator[Any]:
    made = scoped_session(sessionmaker(sqlalchemy.create_engine(sqlalchemy_url(url, "psycopg"), poolclass=NullPool)))
    yield made
    made.remove()


@contextmanager
def _django(url: str) -> Iterator[Any]:
    with django_set_up(url):
        yield django.db.connection


@asynccontextmanager
async def _psycopg_async(url: str) -> AsyncIterator[Any]:
    async with await psycopg.AsyncConnection.connect(url) as conn:
        yield conn


@asynccontextmanager
async def _asyncpg_pool(url: str) -> AsyncIterator[Any]:
    async with asyncpg.create_pool(**asyncpg_parts(url), min_size=1, max_size=1) as pool, pool.acquire() as conn:
        yield conn


@asynccontextmanager
async def _sqlalchemy_async(url: str) -> AsyncIterator[Any]:
    async with create_async_engine(sqlalchemy_url(url, "asyncpg"), poolclass=NullPool).connect() as conn:
        yield conn


@asynccontextmanager
async def _async_session(url: str) -> AsyncIterator[Any]:
    engine = create_async_engine(sqlalchemy_url(url, "psycopg"), poolclass=NullPool)
    async with AsyncSession(engine) as session:
        yield session


SYNC: dict[str, Callable[[str], Any]] = {
    "psycopg": psycopg.connect,
    "psycopg autocommit": lambda url: psycopg.connect(url, autocommit=True),
    "SQLAlchemy": _sqlalchemy,
    "SQLAlchemy session": _session,
    "SQLAlchemy registry": _scoped,
    "Django": _django,
}
ASYNC: dict[str, Callable[[str], Any]] = {
    "psycopg async": _psycopg_async,
    "asyncpg": by_asyncpg,
    "asyncpg pool": _asyncpg_pool,
    "SQLAlchemy async": _sqlalchemy_async,
    "SQLAlchemy async session": _async_session,
}
HEARING = ["psycopg", "psycopg autocommit", "psycopg async", "asyncpg", "asyncpg pool"]
EACH = pytest.mark.parametrize("driver", [*SYNC, *ASYNC])


def waiting(driver: str, url: str, job_id: str, timeout_s: float = 10) -> Any:
    """Wait for a job on a new connection, and see that it is left outside of any transaction."""
    if driver in SYNC:
        with SYNC[driver](url) as conn:
            returned = wait_for(conn, job_id, timeout_s)
            wait_for(conn, job_id, 0)  # again, so that nothing was left open
            return returned
    return asyncio.run(_waiting(driver, url, job_id, timeout_s))


async def _waiting(driver: str, url: str, job_id: str, timeout_s: float) -> Any:
    async with ASYNC[driver](url) as conn:
        returned = await wait_for_async(conn, job_id, timeout_s)
        await wait_for_async(conn, job_id, 0)
        return returned


END = """
    WITH ended AS (UPDATE _ayb_jobs SET state = 'completed', completed_at = now() WHERE id = %(id)s)
    INSERT INTO _ayb_job_results (job_id, result) VALUES (%(id)s, %(result)s)
    RETURNING pg_notify('ayb_jobs_results', job_id::text)
"""


def complete(conn: psycopg.Connection[Any], job_id: str, result: Any) -> None:
    conn.execute(END, {"id": job_id, "result": json.dumps(result)})


LOOKED = """
    SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND query ~ 'latest.outcome|LISTEN|COMMIT'
"""


@contextmanager
def completing(url: str, job_id: str, result: Any) -> Iterator[None]:
    """Complete a job once somebody has looked for it in vain, for the time of the block."""

    done = threading.Event()

    def run() -> None:
        with closing(connect(url)) as conn:
            # Those who hear listen by then; the others are asleep between two looks, or look.
            eventually(lambda: done.is_set() or conn.execute(LOOKED).fetchone())
            complete(conn, job_id, result)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@EACH
def test_each_driver_waits_for_what_the_handler_returned(driver: str, database_url: str, conn: Connection) -> None:
    job_id = make_job(conn)
    with completing(database_url, job_id, {"sent": ["ä", 1.5]}):
        assert waiting(driver, database_url, job_id) == {"sent": ["ä", 1.5]}


@pytest.mark.parametrize("driver", HEARING)
def test_a_driver_that_can_hears_of_the_result(
    driver: str, database_url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ends, "FIRST_PAUSE_S", 60.0)
    monkeypatch.setattr(ends, "LONGEST_PAUSE_S", 60.0)
    job_id = make_job(conn)
    began = time.monotonic()
    with completing(database_url, job_id, 1):
        assert waiting(driver, database_url, job_id, 50) == 1
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("driver", ["psycopg", "psycopg autocommit", "psycopg async"])
def test_nobody_listens_through_a_pooler(
    driver: str, database_url: str, conn: Connection, pgbouncer: PgBouncer
) -> None:
    job_id = make_job(conn)
    with completing(database_url, job_id, 1):
        assert waiting(driver, pgbouncer.url(database_url), job_id) == 1
    listened = conn.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%LISTEN ayb%'"
        " AND pid <> pg_backend_pid()"
    ).fetchone()
    assert listened == (0,)


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
class TestEnds:
    def test_a_failed_job_raises_its_error(self, driver: str, database_url: str, conn: Connection) -> None:
        job_id = make_job(conn, "failed", last_error="it broke")
        with pytest.raises(JobFailed, match=f"job {job_id} failed: it broke") as failed:
            waiting(driver, database_url, job_id)
        assert (failed.value.job_id, failed.value.error) == (job_id, "it broke")

    def test_a_canceled_job_raises_its_reason(self, driver: str, database_url: str, conn: Connection) -> None:
        with pytest.raises(JobCanceled, match="was canceled: not needed"):
            waiting(driver, database_url, make_job(conn, "canceled", last_error="not needed"))
        with pytest.raises(JobCanceled, match=r"was canceled$"):
            waiting(driver, database_url, make_job(conn, "canceled"))

    def test_one_that_has_not_ended_in_time_is_a_timeout(
        self, driver: str, database_url: str, conn: Connection
    ) -> None:
        with pytest.raises(TimeoutError, match=r"has not ended within 0\.05 s") as timed_out:
            waiting(driver, database_url, make_job(conn, "running"), 0.05)
        assert isinstance(timed_out.value, WaitTimedOut)

    def test_one_that_is_not_there_is_not_found(self, driver: str, database_url: str) -> None:
        with pytest.raises(NotFound, match="there is no job 00000000"):
            waiting(driver, database_url, "00000000-0000-0000-0000-000000000000")

    def test_one_without_a_result_returns_its_count_or_nothing(
        self, driver: str, database_url: str, conn: Connection
    ) -> None:
        job_id = make_job(conn, "completed")
        assert waiting(driver, database_url, job_id) is None
        log(conn, job_id, "completed", records=7)
        assert waiting(driver, database_url, job_id) == 7

    @pytest.mark.parametrize("outcome", ["completed", "discarded", "canceled"])
    def test_one_that_was_removed_is_told_from_the_log(
        self, driver: str, database_url: str, conn: Connection, outcome: str
    ) -> None:
        job_id = make_job(conn)
        conn.execute("DELETE FROM _ayb_jobs")
        log(conn, job_id, outcome, records=3, error="why")
        if outcome == "completed":
            assert waiting(driver, database_url, job_id) == 3
        else:
            with pytest.raises(JobCanceled if outcome == "canceled" else JobFailed, match="why"):
                waiting(driver, database_url, job_id)

    def test_a_result_outlives_the_job_and_its_log(self, driver: str, database_url: str, conn: Connection) -> None:
        job_id = make_job(conn, "running")
        complete(conn, job_id, [None])
        conn.execute("DELETE FROM _ayb_jobs")
        assert waiting(driver, database_url, job_id) == [None]


def log(conn: Connection, job_id: str, outcome: str, records: int | None = None, error: str | None = None) -> None:
    conn.execute(
        "INSERT INTO _ayb_job_executions"
        " (id, job_id, job_type, attempt, outcome, records_processed, error, started_at, ended_at)"
        " VALUES (nextval('_ayb_job_execution_ids'), %s, 'test', 1, %s, %s, %s, now(), now())",
        (job_id, outcome, records, error),
    )


def test_a_connection_in_a_transaction_is_refused(database_url: str, conn: Connection) -> None:
    job_id = make_job(conn)
    with django_set_up(database_url), django.db.transaction.atomic(), pytest.raises(InvalidInput, match="end it first"):
        wait_for(django.db.connection, job_id, 1)
    for driver in ("psycopg", "psycopg autocommit", "SQLAlchemy", "SQLAlchemy session", "SQLAlchemy registry"):
        with SYNC[driver](database_url) as waiter:
            begun = sqlalchemy.text("BEGIN") if "SQLAlchemy" in driver else "BEGIN"
            waiter.execute(begun)
            with pytest.raises(InvalidInput, match="end it first"):
                wait_for(waiter, job_id, 1)


@pytest.mark.parametrize("timeout_s", [-1, True, "1", None, float("nan")])
def test_a_time_that_is_none_is_refused(conn: Connection, timeout_s: Any) -> None:
    with pytest.raises(InvalidInput, match="timeout_s is"):
        wait_for(conn, make_job(conn), timeout_s)


def test_an_id_that_is_none_is_refused(conn: Connection) -> None:
    with pytest.raises(InvalidInput, match="job_id 'x' is not a UUID"):
        wait_for(conn, "x", 1)
