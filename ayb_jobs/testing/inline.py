"""Runs jobs in the thread that asks: leased, ended and logged by the daemon's own rules, without a daemon."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

from ayb_jobs.client.enqueueing import enqueue
from ayb_jobs.daemon.identity import new_worker_id
from ayb_jobs.errors import Conflict, InvalidInput, LeaseLost
from ayb_jobs.handlers.async_context import AsyncJobContext
from ayb_jobs.handlers.context import JobContext
from ayb_jobs.handlers.job_type import JobType
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.handlers.services import ContextServices
from ayb_jobs.handlers.suggestion import suggestion
from ayb_jobs.model.backoff import Backoff
from ayb_jobs.model.job import LeasedJob
from ayb_jobs.model.lifecycle import Settlement
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.model.results import as_result
from ayb_jobs.process.inside import python_logger
from ayb_jobs.redact import Redactor
from ayb_jobs.runtime.jobs.attempts import Attempts, Endings, readable, unknown
from ayb_jobs.runtime.jobs.in_flight import Held
from ayb_jobs.runtime.jobs.payloads import Payloads
from ayb_jobs.storage.async_database import AsyncDatabase
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.queue.batches import close_batches, find_sealed, look_at_batches
from ayb_jobs.storage.queue.chosen import lease_chosen
from ayb_jobs.storage.queue.dependencies import find_ripe_edges, resolve
from ayb_jobs.storage.queue.lanes import Lane
from ayb_jobs.storage.queue.leases import release_jobs
from ayb_jobs.storage.queue.leasing import lease_jobs
from ayb_jobs.storage.queue.settling import settle_jobs
from ayb_jobs.storage.queue.testing import find_queues

# Long enough for a debugger.
LEASE_S = 3600.0
# Those of plain jobs, and those of jobs that a daemon has put under limits, which hold nothing back here.
LANES = range(1, 9)
MOST_JOBS = 1000
MOST_EDGES = 10_000
MOST_BATCHES = 10_000
ASYNC_CONNECTIONS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """One attempt that was run: how it ended, what its handler returned or raised, and the error that was stored.

    `outcome` is `completed`, `failed`, `discarded`, `canceled`, `snoozed`, or `released` if the handler was stopped.
    """

    id: str
    type: str
    payload: Any
    attempt: int
    outcome: str
    returned: Any = None
    raised: BaseException | None = None
    error: str | None = None


def drain(url: str, registry: Registry, *, queues: Sequence[str] | None = None, most: int = MOST_JOBS) -> list[Ran]:
    """Run the jobs that are due, and those that they make due, until none is; return their attempts in order.

    Jobs are leased in the daemon's order, one at a time, from these queues or from all. Those of types that the
    registry does not have are left, and so are retries, which are due later: see `make_due`. Whatever a handler does
    is committed. Nothing stops it at its timeout, and an isolated one runs in this process.

    Raises `InvalidInput` if `most` attempts do not suffice, as if a handler enqueues itself for ever.
    """
    with closing(Inline(url, registry)) as inline:
        ran: list[Ran] = []
        while job := inline.lease_next(queues):
            if len(ran) == most:
                inline.give_back(job)
                raise InvalidInput(f"{most} jobs have run and more are due; give a larger `most` if that is meant")
            ran.append(inline.run(job))
        return ran


def run_job(url: str, registry: Registry, job: NewJob) -> Any:
    """Enqueue a job, run it at once, whatever its time, and return what its handler returned, or raise what it raised.

    Raises `InvalidInput` for a type that the registry does not have, and `Conflict` if the job cannot be run: it is
    paused, or its key is taken.
    """
    with closing(Inline(url, registry)) as inline:
        ran = inline.run(inline.lease_new(job))
        if ran.raised is not None:
            raise ran.raised
        return ran.returned


class Inline:
    """Leases jobs and runs them in the thread that calls; to be closed."""

    def __init__(self, url: str, registry: Registry) -> None:
        self._url = url
        self._registry = registry
        self._worker_id = new_worker_id()
        self._database = Database(url, name="ayb-jobs-testing")
        self._payloads = Payloads(database=self._database)
        self._ends: list[Ended] = []
        self._services = ContextServices(
            database=self._database,
            lease_s=LEASE_S,
            logger=python_logger(Redactor(())),
            worker_id=self._worker_id,
            settled=lambda settlement, _: self._ends.append(Ended(settlement.outcome, settlement.error)),
        )
        self._attempts = Attempts(
            services=self._services, backoff=Backoff(), endings=Endings(settle=self._settle, release=self._release)
        )

    def close(self) -> None:
        """Close the connections, and the process that starts commands."""
        self._services.spawner.close()
        self._database.close()

    def lease_next(self, queues: Sequence[str] | None) -> LeasedJob | None:
        """Lease the job that a daemon would begin next, if one is due."""
        if job := self._lease_next(queues):
            return job
        are_freed, are_called = self._free_children(), self._end_batches()
        return self._lease_next(queues) if are_freed or are_called else None

    def _end_batches(self) -> bool:
        """End the batches whose members have all ended, as a daemon does; tell whether any were ended."""
        with self._database.connection() as conn:
            seen = look_at_batches(conn, [(id_, None) for id_ in find_sealed(conn, limit=MOST_BATCHES)])
        with self._database.transaction() as conn:
            return bool(close_batches(conn, [each.id for each in seen if each.witness is None]))

    def _free_children(self) -> bool:
        """Free the jobs whose parents have ended, as a daemon does; tell whether any were freed."""
        freed, canceled = 0, 1
        while canceled:  # what was canceled may have children of its own
            with self._database.transaction() as conn:
                resolved = resolve(conn, find_ripe_edges(conn, limit=MOST_EDGES).ripe)
            freed, canceled = freed + len(resolved.freed), len(resolved.canceled)
        return freed > 0

    def _lease_next(self, queues: Sequence[str] | None) -> LeasedJob | None:
        with self._database.connection() as conn:
            names = find_queues(conn) if queues is None else queues
            leased = lease_jobs(
                conn,
                worker_id=self._worker_id,
                lanes=[Lane(queue, priority) for priority, queue in product(LANES, names)],
                types=self._registry.names(),
                limit=1,
                lease_s=LEASE_S,
            )
        return next((job for job in leased if job.lease_id), None)

    def lease_new(self, job: NewJob) -> LeasedJob:
        """Enqueue a job, and lease it."""
        if self._registry.get(job.type) is None:
            raise InvalidInput(
                f"there is no job type {job.type}{suggestion(job.type, self._registry.names())}", field="type"
            )
        with self._database.connection() as conn:
            made = enqueue(conn, job._replace(run_at=None, delay=None, depends_on=()))
            chosen = lease_chosen(
                conn, [made.id], worker_id=self._worker_id, rooms={job.queue: 1}, types=[job.type], lease_s=LEASE_S
            )
        if not chosen.leased:
            why = (
                "its queue or its type is paused, or limited"
                if made.created
                else "an earlier job has its key, and is not due"
            )
            raise Conflict(f"job {made.id} cannot be run: {why}")
        return chosen.leased[0]

    def give_back(self, job: LeasedJob) -> None:
        """Put a job back that was leased and not begun."""
        with self._database.connection() as conn:
            release_jobs(conn, [job.lease])

    def run(self, job: LeasedJob) -> Ran:
        """Run a leased job to the end of its attempt; raises `LeaseLost` if somebody else has it by then."""
        job = self._whole(job)
        held = Held(job, time.monotonic())
        job_type = self._registry.get(job.type)
        context = self._attempts.begin(held, job, job_type)
        self._ends.clear()
        returned, raised = None, None
        try:
            returned = self._call(job_type, readable(context)) if job_type else unknown(job)
            result = as_result(returned)
        except (Exception, SystemExit, asyncio.CancelledError) as error:  # what a test raises to end itself goes on
            raised = error
            self._attempts.raised(held, context, error, held.started, time.monotonic())
        else:
            self._attempts.returned(held, context, result, time.monotonic())
        if not self._ends:
            raise LeaseLost
        [ended] = self._ends
        return Ran(
            id=job.id,
            type=job.type,
            payload=context.payload,
            attempt=job.attempt,
            outcome=str(ended.outcome),
            returned=returned,
            raised=raised,
            error=ended.error,
        )

    def _whole(self, job: LeasedJob) -> LeasedJob:
        """Return the job with its payload, which leasing leaves in the database if it is large."""
        fetched = self._payloads.fetch(job, lambda: False) if self._payloads.are_left(job) else None
        return job if fetched is None else fetched.job

    def _call(self, job_type: JobType, context: JobContext) -> Any:
        if job_type.executor != "async":
            return job_type.run(context)
        if is_on_event_loop():
            raise InvalidInput(
                f"the handler of {job_type.name} needs an event loop of its own; call: await asyncio.to_thread(drain, …)"
            )
        return asyncio.run(self._call_async(job_type, context))

    async def _call_async(self, job_type: JobType, context: JobContext) -> Any:
        database = AsyncDatabase(self._url, work_connections=ASYNC_CONNECTIONS, timeouts=self._database.timeouts)
        with threads() as helpers:
            try:
                return await job_type.run(AsyncJobContext(context, database, helpers))
            finally:
                await database.close()
                for client in self._services.clients.values():
                    await client.close()
                self._services.clients.clear()

    def _settle(self, held: Held, settlement: Settlement) -> None:
        with self._database.connection() as conn:
            written = settle_jobs(conn, [settlement], worker_id=self._worker_id, now=time.monotonic())
        if held.job.lease_id in written.leases:
            self._ends.append(Ended(settlement.outcome, settlement.error))

    def _release(self, held: Held) -> None:
        self.give_back(held.job)
        self._ends.append(Ended("released", None))


class Ended(NamedTuple):
    """How an attempt ended, and the error that was stored."""

    outcome: str
    error: str | None


@contextmanager
def threads() -> Iterator[ThreadPoolExecutor]:
    """Give the threads that do what would block an event loop."""
    with ThreadPoolExecutor(1, thread_name_prefix="async-helper") as pool:
        yield pool


def is_on_event_loop() -> bool:
    """Tell whether this thread runs an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
