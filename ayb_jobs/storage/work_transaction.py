"""The transaction of a handler's block: begin it with a timeout, and tell at its end whether it is still the same."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import NamedTuple

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow, tuple_row

from ayb_jobs.errors import TransactionLost
from ayb_jobs.storage.rows import certain, one_row

Connection = psycopg.Connection[TupleRow]
AsyncConnection = psycopg.AsyncConnection[TupleRow]
Began = tuple[object, ...]

# What the setting holds, nearly 25 days.
MOST_MILLISECONDS = 2**31 - 1


class AtEnd(NamedTuple):
    """What ends a block, on a search path of its own: `run` is called with the block's path, and puts it back."""

    path: str
    run: Callable[[str], object]


class AsyncAtEnd(NamedTuple):
    """What `AtEnd` is, on an asynchronous connection."""

    path: str
    run: Callable[[str], Awaitable[object]]


@contextmanager
def work_transaction(conn: Connection, timeout_s: float | None, at_end: AtEnd | None = None) -> Iterator[None]:
    """Run a block in a transaction, each statement of which may take `timeout_s`; `at_end` belongs to it as well.

    Raises `TransactionLost` at the end of the block, and leaves out `at_end`, if the block lost its transaction.
    """
    with conn.transaction():
        began = begin_work(conn, timeout_s)
        yield
        if at_end is None:
            check_work(conn, began)
        else:
            at_end.run(check_work_and_leave_path(conn, began, at_end.path))


@asynccontextmanager
async def work_transaction_on(
    conn: AsyncConnection, timeout_s: float | None, at_end: AsyncAtEnd | None = None
) -> AsyncIterator[None]:
    """Do what `work_transaction` does, on an asynchronous connection."""
    async with conn.transaction():
        began = await begin_work_on(conn, timeout_s)
        yield
        if at_end is None:
            await check_work_on(conn, began)
        else:
            await at_end.run(await check_work_and_leave_path_on(conn, began, at_end.path))


# Every transaction has its own `now()`. As bytes, it reads the same whatever settings the block has changed.
BEGIN_WORK = """
    SELECT pg_catalog.set_config('statement_timeout', %s, true), pg_catalog.timestamptz_send(pg_catalog.now())
"""


def begin_work(conn: Connection, timeout_s: float | None) -> Began:
    """Let each statement of this transaction take `timeout_s`, at most 24 days; None is no limit.

    Returns what `check_work` knows the transaction by.
    """
    with conn.cursor(row_factory=tuple_row) as cursor:
        return one_row(cursor.execute(BEGIN_WORK, (milliseconds(timeout_s),)))[1:]


WORK_BEGAN = "SELECT pg_catalog.timestamptz_send(pg_catalog.now())"


def check_work(conn: Connection, began: Began) -> None:
    """Raise `TransactionLost` if what was done on this connection since `begin_work` would not be committed as one.

    The server answers COMMIT with a plain ROLLBACK if a statement has failed, and psycopg says nothing of that. Neither
    does anything in the connection's state tell of a ROLLBACK AND CHAIN, or of a string of several statements that ends
    the transaction and begins another. So the server is asked.
    """
    refuse_lost(conn)
    with conn.cursor(row_factory=tuple_row) as cursor:
        refuse_another(conn, one_row(cursor.execute(WORK_BEGAN)), began)


# The path goes back at the end of the transaction, if nobody puts it back before.
LEAVE_PATH = """
    SELECT pg_catalog.timestamptz_send(pg_catalog.now()), pg_catalog.current_setting('search_path'),
        pg_catalog.set_config('search_path', %s, true)
"""


def check_work_and_leave_path(conn: Connection, began: Began, path: str) -> str:
    """Do what `check_work` does, and change the search path for this transaction; return the path before."""
    refuse_lost(conn)
    with conn.cursor(row_factory=tuple_row) as cursor:
        found, before, _ = one_row(cursor.execute(LEAVE_PATH, (path,)))
    refuse_another(conn, (found,), began)
    return str(before)


def refuse_another(conn: Connection, found: Began, began: Began) -> None:
    """Close the connection and raise `TransactionLost` if another transaction was found than the one that began."""
    if found != began:
        conn.close()  # whoever takes control of transactions may have changed other things that would stay
        raise TransactionLost(ENDED_ITSELF)


async def begin_work_on(conn: AsyncConnection, timeout_s: float | None) -> Began:
    """Do what `begin_work` does, on an asynchronous connection."""
    async with conn.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(BEGIN_WORK, (milliseconds(timeout_s),))
        return certain(await cursor.fetchone())[1:]


async def check_work_on(conn: AsyncConnection, began: Began) -> None:
    """Do what `check_work` does, on an asynchronous connection."""
    refuse_lost(conn)
    async with conn.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(WORK_BEGAN)
        await refuse_another_on(conn, certain(await cursor.fetchone()), began)


async def check_work_and_leave_path_on(conn: AsyncConnection, began: Began, path: str) -> str:
    """Do what `check_work_and_leave_path` does, on an asynchronous connection."""
    refuse_lost(conn)
    async with conn.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(LEAVE_PATH, (path,))
        found, before, _ = certain(await cursor.fetchone())
    await refuse_another_on(conn, (found,), began)
    return str(before)


async def refuse_another_on(conn: AsyncConnection, found: Began, began: Began) -> None:
    """Do what `refuse_another` does, on an asynchronous connection."""
    if found != began:
        await conn.close()
        raise TransactionLost(ENDED_ITSELF)


ENDED_ITSELF = "the block ended its transaction itself, by COMMIT or ROLLBACK; leave that to the end of the block"


def refuse_lost(conn: Connection | AsyncConnection) -> None:
    """Raise `TransactionLost` if the connection's own state tells that the transaction will not be committed."""
    if conn.closed:
        raise TransactionLost("the connection was lost inside the block, and what was done on it is not kept")
    if conn.info.transaction_status == TransactionStatus.INERROR:
        raise TransactionLost(
            "a statement failed inside the block, so that nothing of the block is kept; let its error leave the"
            " block, or run the statement within a savepoint: with conn.transaction():"
        )


BACKEND = "SELECT pg_catalog.pg_backend_pid()"
CANCEL_STATEMENT = "SELECT pg_catalog.pg_cancel_backend(%s)"


def backend_of(conn: Connection) -> int:
    """Return the server process that runs the statements of this transaction; a pooler names one of its own."""
    with conn.cursor(row_factory=tuple_row) as cursor:
        return int(one_row(cursor.execute(BACKEND))[0])


def cancel_statement(conn: Connection, backend: int) -> None:
    """Have a server process end the statement that it runs, if it runs one."""
    conn.execute(CANCEL_STATEMENT, (backend,))


# For as long as the connection lives; through a pooler, others would have it.
SET_SESSION_TIMEOUT = "SELECT pg_catalog.set_config('statement_timeout', %s, false)"


def set_session_timeout(conn: Connection, seconds: float | None) -> None:
    """Let each statement on this connection take so long from here on; None is no limit."""
    conn.execute(SET_SESSION_TIMEOUT, (milliseconds(seconds),))


def milliseconds(seconds: float | None) -> str:
    """Return a timeout as PostgreSQL takes it: whole milliseconds, at least one; None is no limit."""
    return "0" if seconds is None else str(max(1, int(min(seconds * 1000, MOST_MILLISECONDS))))
