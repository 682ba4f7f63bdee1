"""What an asynchronous handler is given: the same names, awaited where they wait for something."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from structlog.typing import FilteringBoundLogger

from ayb_jobs import failpoints
from ayb_jobs.errors import AybJobsError, InvalidInput
from ayb_jobs.handlers.blocks import block_of, refuse_checkpoint_within_block, refuse_step_within_block
from ayb_jobs.handlers.context import NOT_GIVEN, JobContext, StopReason
from ayb_jobs.handlers.services import ContextServices
from ayb_jobs.model.job import LeasedJob
from ayb_jobs.model.lifecycle import Settlement
from ayb_jobs.storage.async_database import AsyncDatabase
from ayb_jobs.storage.database import shares_sessions
from ayb_jobs.storage.own import Surroundings
from ayb_jobs.storage.queue.settling import Settled
from ayb_jobs.storage.queue.settling_within import settle_within_on
from ayb_jobs.storage.work_transaction import (
    SET_SESSION_TIMEOUT,
    AsyncAtEnd,
    AsyncConnection,
    milliseconds,
    work_transaction_on,
)


class AsyncJobContext:
    """One run of one job, as its `async def` handler sees it; see `JobContext`.

    `connection()`, `connection_without_transaction()` and `transaction()` are for `async with`, and lend asynchronous
    connections of psycopg. `progress()`, `step()` and `checkpoint` are awaited. `stopping` is an `asyncio.Event`. All
    else is the same.

    It belongs to the event loop on which it is made. `threads` runs what would block that loop.
    """

    __slots__ = ("_context", "_database", "_loop", "_stopping", "_threads")

    def __init__(self, context: JobContext, database: AsyncDatabase, threads: Executor) -> None:
        self._context = context
        self._database = database
        self._threads = threads
        self._loop = asyncio.get_running_loop()
        self._stopping: asyncio.Event | None = None

    def __repr__(self) -> str:
        return repr(self._context).replace("<JobContext", "<AsyncJobContext")

    @property
    def job(self) -> LeasedJob:
        """The job as leased."""
        return self._context.job

    @property
    def services(self) -> ContextServices:
        """What all contexts of the daemon share, for kinds of job types."""
        return self._context.services

    @property
    def payload(self) -> Any:
        """The job's payload, decoded from JSON."""
        return self._context.payload

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1."""
        return self._context.attempt

    @property
    def scheduled_for(self) -> datetime | None:
        """The fire time for which a schedule made the job, in UTC; None for other jobs."""
        return self._context.scheduled_for

    @property
    def log(self) -> FilteringBoundLogger:
        """A structlog logger whose lines carry the job's id, its type and the attempt."""
        return self._context.log

    @property
    def deadline(self) -> float | None:
        """When the attempt times out, in seconds of `time.monotonic()`; None if there is no limit."""
        return self._context.deadline

    @property
    def settled(self) -> bool:
        """Whether `transaction()` has completed the job."""
        return self._context.settled

    @property
    def stop_reason(self) -> StopReason | None:
        """Why the handler was asked to stop; None before that."""
        return self._context.stop_reason

    @property
    def canceled(self) -> bool:
        """Whether somebody asked for this job to be canceled while it runs."""
        return self._context.canceled

    @property
    def records_processed(self) -> int | None:
        """The count reported so far, which is kept even if the attempt fails."""
        return self._context.records_processed

    @records_processed.setter
    def records_processed(self, records: int | None) -> None:
        self._context.records_processed = records

    @property
    def stopping(self) -> asyncio.Event:
        """An event that is set once the handler should end: `.is_set()`, or `await ctx.stopping.wait()`."""
        if self._stopping is None:
            self._stopping = asyncio.Event()
            if self._context.stop_reason is not None:
                self._stopping.set()
        return self._stopping

    def asked_to_stop(self) -> None:
        """Set `stopping`, on the event loop's own thread."""
        if self._stopping is not None:
            self._stopping.set()

    def check(self) -> None:
        """Raise if the handler was asked to stop: `LeaseLost`, or `Stopped` with the reason; else do nothing."""
        self._context.check()

    def remaining_s(self) -> float | None:
        """Return the seconds left until the attempt times out, never below zero; None if there is no limit."""
        return self._context.remaining_s()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection]:
        """Lend a connection for one transaction; ends and raises as `JobContext.connection` does."""
        async with self._database.work() as conn, work_transaction_on(conn, self.remaining_s()):
            with block_of(self.job.lease):
                yield conn

    @asynccontextmanager
    async def connection_without_transaction(self) -> AsyncIterator[AsyncConnection]:
        """Lend a connection on which each statement is committed by itself, for what no transaction may hold."""
        async with self._database.work() as conn:
            lasting = not shares_sessions(conn)
            if lasting:
                await conn.execute(SET_SESSION_TIMEOUT, (milliseconds(self.remaining_s()),))
            try:
                yield conn
            finally:
                if lasting:
                    await conn.close()  # the next user of it must not have this timeout

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """Lend a connection for one transaction that completes the job as well; see `JobContext.transaction`."""
        if self.settled:
            raise InvalidInput("transaction() has completed this job already; it can be used once")
        ended: list[tuple[Settlement, Settled]] = []
        ours = await self._surroundings()
        async with self._database.work() as conn:

            async def complete(theirs: str) -> None:
                ended.append(await self._complete(conn, ours.schema, theirs))

            async with work_transaction_on(conn, self.remaining_s(), AsyncAtEnd(ours.path, complete)):
                with block_of(self.job.lease):
                    yield conn
        self._context.completed(*ended[0])

    async def _surroundings(self) -> Surroundings:
        database = self.services.database
        known = database.known_surroundings
        return known if known is not None else await self.in_thread(database.surroundings)

    async def _complete(self, conn: AsyncConnection, schema: str | None, path: str) -> tuple[Settlement, Settled]:
        """Complete the job in the transaction of this connection, and put the handler's search path back."""
        settlement = self._context.completion()
        worker_id = self._context.worker_id
        written = await settle_within_on(conn, settlement, worker_id=worker_id, schema=schema, path=path)
        if not written.leases:
            error: AybJobsError = await self.in_thread(lambda: self._context.ask_why_not_settled(settlement))
            raise error
        failpoints.reach(failpoints.COMMITTING)
        return settlement, written

    async def step(self, name: str, run: Callable[[], Awaitable[Any]]) -> Any:
        """Await what a function returns, once for the job; see `JobContext.step`."""
        refuse_step_within_block(self.job.lease, name)
        done = await self.in_thread(lambda: self._context.steps.find(name))
        if done is not None:
            return done.value
        self.check()
        returned = await run()
        return await self.in_thread(lambda: self._context.keep_step(name, returned))

    @property
    async def checkpoint(self) -> Any:
        """The last checkpoint, to be awaited; see `JobContext.checkpoint`."""
        return await self.in_thread(lambda: self._context.checkpoint)

    async def progress(
        self,
        records_processed: int | None = None,
        message: str | None = None,
        *,
        percent: float | None = None,
        checkpoint: Any = NOT_GIVEN,
    ) -> None:
        """Show how far the job is, and extend its lease by a full lease duration; see `JobContext.progress`."""
        if checkpoint is not NOT_GIVEN:
            refuse_checkpoint_within_block(self.job.lease)
        await self.in_thread(
            lambda: self._context.progress(records_processed, message, percent=percent, checkpoint=checkpoint)
        )

    async def in_thread(self, action: Callable[[], Any]) -> Any:
        """Run what would block the event loop in one of its few threads."""
        return await self._loop.run_in_executor(self._threads, action)
