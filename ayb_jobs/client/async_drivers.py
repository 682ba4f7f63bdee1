"""Sending statements by each asynchronous driver."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol, TypeVar

from ayb_jobs.client import sync_drivers
from ayb_jobs.client.copying import Copied
from ayb_jobs.client.dialects import numbered, sqlalchemy_text, with_literals
from ayb_jobs.client.hearing import AsyncWait, asyncpg_hearing, deaf_async, psycopg_async_hearing
from ayb_jobs.client.steps import Row, Steps, enqueue_all, join_batch
from ayb_jobs.client.sync_drivers import IDLE, VERSION, on_postgresql, plain_rows
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.storage.queue.enqueueing import COPY_DUE_JOBS, COPY_DUE_MEMBERS, NOTIFY

T = TypeVar("T")
TABLE = "_ayb_jobs"
COLUMNS = ("id", "payload", "type", "queue", "priority", "max_attempts", "traceparent")


class AsyncDriver(Protocol):
    """One connection of the caller's."""

    def __init__(self, conn: Any) -> None: ...

    async def server_version(self) -> int:
        """Return the server's version, such as 180001; the first call on a connection."""
        ...

    async def fetch(self, statement: str, values: Mapping[str, Any]) -> Row | None:
        """Run a statement in the caller's transaction and return its first row."""
        ...

    async def enqueue_all(
        self, jobs: Iterable[tuple[str, NewJob]], trace: str | None, batch_id: str | None = None
    ) -> int:
        """Insert jobs with their ids, all or none, and return how many were made; as members of a batch, if given."""
        ...

    def in_transaction(self) -> bool:
        """Tell whether the caller's transaction is under way."""
        ...

    async def leave(self) -> None:
        """End the transaction that a statement began by itself."""
        ...

    def hearing(self, job_id: str, backend_pid: int) -> AbstractAsyncContextManager[AsyncWait]:
        """Wait for a job, on a connection to the server's process of that number; see `hearing`."""
        ...


async def run(steps: Steps[T], fetch: Callable[[str, Mapping[str, Any]], Awaitable[Row | None]]) -> T:
    """Send what the steps ask for, one after the other, and return what comes of them."""
    row: Row | None = None
    while True:
        try:
            statement, values = steps.send(row) if row is not None else next(steps)
        except StopIteration as done:
            result: T = done.value
            return result
        row = await fetch(statement, values)


class Psycopg:
    """A psycopg `AsyncConnection`."""

    def __init__(self, conn: Any) -> None:
        self._conn = conn

    async def server_version(self) -> int:
        """Return the server's version."""
        return int(self._conn.info.server_version)

    async def fetch(self, statement: str, values: Mapping[str, Any]) -> Row | None:
        """Return a statement's first row."""
        async with self._conn.cursor(row_factory=plain_rows) as cursor:
            await cursor.execute(statement, with_literals(values))
            row: Row | None = await cursor.fetchone()
            return row

    async def enqueue_all(
        self, jobs: Iterable[tuple[str, NewJob]], trace: str | None, batch_id: str | None = None
    ) -> int:
        """Copy jobs, and insert those for which something has to be looked up."""
        copied = Copied(jobs, trace, batch_id)
        async with self._all_or_none(), self._conn.cursor(row_factory=plain_rows) as cursor:
            if batch_id is not None:
                await run(join_batch(batch_id), self.fetch)
            async with cursor.copy(COPY_DUE_JOBS if batch_id is None else COPY_DUE_MEMBERS) as copy:
                for chunk in copied.chunks():
                    await copy.write(chunk)
            count = int(cursor.rowcount)
            if count:
                await cursor.execute(NOTIFY)
            return count + await run(enqueue_all(copied.others, trace), self.fetch)

    def _all_or_none(self) -> AbstractAsyncContextManager[object]:
        """Return a transaction, or a savepoint in the caller's, as the synchronous driver does."""
        begins_its_own = not self._conn.autocommit and self._conn.info.transaction_status == IDLE
        transaction: AbstractAsyncContextManager[object] = (
            self._rolled_back_if_it_fails() if begins_its_own else self._conn.transaction()
        )
        return transaction

    @asynccontextmanager
    async def _rolled_back_if_it_fails(self) -> AsyncIterator[None]:
        """Leave nothing in a transaction that began within the block, should its owner commit it all the same."""
        try:
            yield
        except BaseException:
            if not self._conn.closed:
                await self._conn.rollback()
            raise

    def in_transaction(self) -> bool:
        """Tell whether a transaction is under way."""
        return bool(self._conn.info.transaction_status != IDLE)

    async def leave(self) -> None:
        """End what a statement began by itself."""
        if not self._conn.autocommit:
            await self._conn.commit()

    def hearing(self, job_id: str, backend_pid: int) -> AbstractAsyncContextManager[AsyncWait]:
        """Wait for a notification."""
        return psycopg_async_hearing(self._conn, job_id, backend_pid)


class Asyncpg:
    """An asyncpg `Connection`, or one that its pool lends out."""

    def __init__(self, conn: Any) -> None:
        self._conn = conn

    async def server_version(self) -> int:
        """Return the server's version."""
        return int(self._conn.get_server_version().major) * VERSION

    async def fetch(self, statement: str, values: Mapping[str, Any]) -> Row | None:
        """Return a statement's first row."""
        asked = numbered(statement)
        row: Row | None = await self._conn.fetchrow(asked.text, *asked.arguments(values))
        return row

    async def enqueue_all(
        self, jobs: Iterable[tuple[str, NewJob]], trace: str | None, batch_id: str | None = None
    ) -> int:
        """Copy jobs, and insert those for which something has to be looked up.

        As text: `copy_records_to_table` would send payloads by the codec that the application has set for JSON.
        """
        copied = Copied(jobs, trace, batch_id)
        async with self._conn.transaction():
            if batch_id is not None:
                await run(join_batch(batch_id), self.fetch)
            columns = COLUMNS if batch_id is None else (*COLUMNS, "batch_id")
            done = await self._conn.copy_to_table(TABLE, source=_encoded(copied), columns=columns)
            count = int(done.rpartition(" ")[2])
            if count:
                await self._conn.execute(NOTIFY)
            return count + await run(enqueue_all(copied.others, trace), self.fetch)

    def in_transaction(self) -> bool:
        """Tell whether a transaction is under way."""
        return bool(self._conn.is_in_transaction())

    async def leave(self) -> None:
        """Do nothing: outside a transaction of the caller's each statement is committed by itself."""

    def hearing(self, job_id: str, backend_pid: int) -> AbstractAsyncContextManager[AsyncWait]:
        """Wait for a notification."""
        return asyncpg_hearing(self._conn, job_id, backend_pid)


async def _encoded(copied: Copied) -> AsyncIterator[bytes]:
    for chunk in copied.chunks():
        yield chunk.encode()


class Sqlalchemy:
    """An SQLAlchemy `AsyncConnection`."""

    def __init__(self, conn: Any) -> None:
        self._conn = on_postgresql(conn)

    async def server_version(self) -> int:
        """Return the server's version."""
        return int(self._conn.dialect.server_version_info[0]) * VERSION

    async def fetch(self, statement: str, values: Mapping[str, Any]) -> Row | None:
        """Return a statement's first row."""
        row: Row | None = (await self._conn.execute(sqlalchemy_text(statement), values)).fetchone()
        return row

    async def enqueue_all(
        self, jobs: Iterable[tuple[str, NewJob]], trace: str | None, batch_id: str | None = None
    ) -> int:
        """Insert jobs as the synchronous driver does, on the connection within this one."""
        made: int = await self._conn.run_sync(
            lambda conn: sync_drivers.Sqlalchemy(conn).enqueue_all(jobs, trace, batch_id)
        )
        return made

    def in_transaction(self) -> bool:
        """Tell whether a transaction is under way."""
        return bool(self._conn.in_transaction())

    async def leave(self) -> None:
        """End what a statement began by itself."""
        await self._conn.commit()

    def hearing(self, job_id: str, backend_pid: int) -> AbstractAsyncContextManager[AsyncWait]:
        """Wait for time to pass."""
        _ = job_id, backend_pid
        return deaf_async()


class SqlalchemySession(Sqlalchemy):
    """An SQLAlchemy `AsyncSession`, or a registry of them: its connection is in its transaction."""

    def __init__(self, conn: Any) -> None:
        self._session = conn() if callable(conn) else conn  # a registry returns the session that is current
        self._conn = None

    async def server_version(self) -> int:
        """Return the server's version, by the session's connection."""
        await self._begin()
        return await super().server_version()

    async def fetch(self, statement: str, values: Mapping[str, Any]) -> Row | None:
        """Return a statement's first row."""
        await self._begin()
        return await super().fetch(statement, values)

    async def enqueue_all(
        self, jobs: Iterable[tuple[str, NewJob]], trace: str | None, batch_id: str | None = None
    ) -> int:
        """Insert jobs on the session's connection."""
        await self._begin()
        return await super().enqueue_all(jobs, trace, batch_id)

    def in_transaction(self) -> bool:
        """Tell whether a transaction is under way."""
        return bool(self._session.in_transaction())

    async def leave(self) -> None:
        """End what a statement began by itself, as the synchronous driver does."""
        await self._session.commit()
        self._conn = None

    async def _begin(self) -> None:
        """Take the connection that the session has for its transaction."""
        if self._conn is None:
            self._conn = on_postgresql(await self._session.connection())
