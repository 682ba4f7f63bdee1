"""What a handler is given: its job, its log, a connection, its deadline, and whether it was asked to stop."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Literal

from structlog.typing import FilteringBoundLogger

from ayb_jobs import failpoints
from ayb_jobs.errors import AybJobsError, InvalidInput, LeaseLost, Stopped
from ayb_jobs.handlers.blocks import block_of, refuse_checkpoint_within_block, refuse_step_within_block
from ayb_jobs.handlers.services import ContextServices
from ayb_jobs.handlers.steps import Steps
from ayb_jobs.model.job import LeasedJob
from ayb_jobs.model.lifecycle import Settlement, settle_result
from ayb_jobs.model.payload import decode_payload, encode_json, encode_payload
from ayb_jobs.model.results import MAX_RESULT_BYTES, check_percent, check_records
from ayb_jobs.storage.database import Connection, shares_sessions
from ayb_jobs.storage.faults import RowUnchanged
from ayb_jobs.storage.queue.canceling import is_canceling
from ayb_jobs.storage.queue.leases import report_progress
from ayb_jobs.storage.queue.left_out import find_held
from ayb_jobs.storage.queue.settling import Settled
from ayb_jobs.storage.queue.settling_within import settle_within
from ayb_jobs.storage.queue.steps import report_checkpoint
from ayb_jobs.storage.work_transaction import AtEnd, set_session_timeout, work_transaction

StopReason = Literal["shutdown", "timeout", "lease_lost", "canceled"]
# A reason with a higher rank takes the place of another.
RANKS: Mapping[StopReason | None, int] = {None: 0, "shutdown": 1, "timeout": 1, "canceled": 2, "lease_lost": 3}

UNDECODED: Any = object()
# What runs has to have ended before the daemon waits no more, and before the rest of a lost lease is over.
OF_SHUTDOWN = 0.8
OF_LEASE = 1 / 6
# Stands for a checkpoint that is not given; None is one.
NOT_GIVEN: Any = object()


class JobContext:
    """One run of one job, as its handler sees it.

    `job` is the job as leased; `deadline` is when the attempt times out, in seconds of `time.monotonic()`, or None;
    `settled` tells whether `transaction()` has completed the job;
    `stop_reason` is None until the handler is asked to stop; `records_processed` is the count reported so far, which is
    kept even if the attempt fails.

    Tens of thousands are made each second: whatever is not always needed is made when it is first asked for.
    """

    elsewhere: Callable[[], object]  # set only if the handler is to run in a child process: runs it there
    __slots__ = (
        "_log",
        "_on_stop",
        "_payload",
        "_services",
        "_started",
        "_steps",
        "_stopping",
        "deadline",
        "elsewhere",
        "job",
        "records_processed",
        "settled",
        "stop_reason",
    )

    def __init__(
        self,
        job: LeasedJob,
        services: ContextServices,
        deadline: float | None = None,
        started: float | None = None,
    ) -> None:
        self.job = job
        self.deadline = deadline
        self.stop_reason: StopReason | None = None
        self.records_processed: int | None = None
        self.settled = False
        self._services = services
        self._started = time.monotonic() if started is None else started
        self._payload: Any = UNDECODED
        self._steps: Steps | None = None
        self._log: FilteringBoundLogger | None = None
        self._stopping: threading.Event | None = None
        self._on_stop: Callable[[StopReason], None] | None = None

    def __repr__(self) -> str:
        return f"<JobContext {self.job.type} {self.job.id} attempt {self.job.attempt}>"

    @property
    def payload(self) -> Any:
        """The job's payload, decoded from JSON; raises `PayloadUndecodable` if Python cannot hold it."""
        if self._payload is UNDECODED:
            self._payload = decode_payload(self.job.payload_text)
        return self._payload

    @property
    def worker_id(self) -> str:
        """The id of the daemon that runs this attempt."""
        return self._services.worker_id

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1."""
        return self.job.attempt

    @property
    def scheduled_for(self) -> datetime | None:
        """The fire time for which a schedule made the job, in UTC; None for other jobs."""
        return self.job.scheduled_for

    @property
    def log(self) -> FilteringBoundLogger:
        """A structlog logger whose lines carry the job's id, its type and the attempt."""
        if self._log is None:
            job = self.job
            self._log = self._services.logger.bind(job_id=job.id, job_type=job.type, attempt=job.attempt)
        return self._log

    @property
    def stopping(self) -> threading.Event:
        """An event that is set once the handler should end: `.is_set()`, or `.wait(seconds)` in place of a sleep."""
        with self._services.lock:
            if self._stopping is None:
                self._stopping = threading.Event()
                if self.stop_reason is not None:
                    self._stopping.set()
            return self._stopping

    def stop(self, reason: StopReason) -> None:
        """Ask the handler to end, from any thread.

        The first reason stays, but that the job is canceled outweighs it, and a lost lease outweighs all. A reason that
        was given before is not told again.
        """
        with self._services.lock:
            if reason == self.stop_reason:
                return
            if RANKS[reason] > RANKS[self.stop_reason]:
                self.stop_reason = reason
            if self._stopping is not None:
                self._stopping.set()
            tell = self._on_stop
        if tell is not None:
            tell(reason)

    def when_stopped(self, tell: Callable[[StopReason], None]) -> None:
        """Have `tell` called with each reason to stop, in the thread that gives it; at once if there was one before."""
        with self._services.lock:
            self._on_stop = tell
            reason = self.stop_reason
        if reason is not None:
            tell(reason)

    def time_to_stop_s(self, wanted_s: float) -> float:
        """Return how long what runs may take to end, once the handler was asked to stop: `wanted_s` if that can be had.

        A stopping daemon does not wait longer. If the lease is lost, another daemon may soon begin the job.
        """
        match self.stop_reason:
            case "shutdown":
                return min(wanted_s, self._services.shutdown_s * OF_SHUTDOWN)
            case "lease_lost":
                return min(wanted_s, self._services.lease_s * OF_LEASE)
            case _:
                return wanted_s

    @property
    def services(self) -> ContextServices:
        """What all contexts of the daemon share, for kinds of job types."""
        return self._services

    @property
    def canceled(self) -> bool:
        """Whether somebody asked for this job to be canceled while it runs: whatever the handler does, it will be."""
        return self.stop_reason == "canceled"

    def check(self) -> None:
        """Raise if the handler was asked to stop: `LeaseLost`, or `Stopped` with the reason; else do nothing.

        If `Stopped` leaves the handler because of a shutdown, the job goes back to the queue and the attempt is not
        counted.
        """
        if self.stop_reason is not None:
            raise LeaseLost if self.stop_reason == "lease_lost" else Stopped(self.stop_reason)

    def remaining_s(self) -> float | None:
        """Return the seconds left until the attempt times out, never below zero; None if there is no limit."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Lend a connection for one transaction: committed at the end of the block, rolled back if the block raises.

        Raises `TransactionLost` at the end if the transaction is gone by then: a statement failed and the block went on
        all the same, the connection was lost, or the block ended the transaction itself. A statement that may fail
        belongs into a savepoint: `with conn.transaction():`.

        A statement may take as long as is left of the type's timeout, or any time if there is none. Set nothing on the
        connection that outlives the transaction (use SET LOCAL): the next user of it may be anyone.
        """
        with (
            self._services.database.work() as conn,
            work_transaction(conn, self.remaining_s()),
            block_of(self.job.lease),
        ):
            yield conn

    @contextmanager
    def connection_without_transaction(self) -> Iterator[Connection]:
        """Lend a connection on which each statement is committed by itself, for what no transaction may hold.

        Statements may take as long as is left of the type's timeout; through a pooler, as long as the server allows.
        """
        with self._services.database.work() as conn:
            lasting = not shares_sessions(conn)
            if lasting:
                set_session_timeout(conn, self.remaining_s())
            try:
                yield conn
            finally:
                if lasting:
                    conn.close()  # the next user of it must not have this timeout

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Lend a connection for one transaction that completes the job as well: its work is done exactly once.

        At the end of the block the job is completed and all is committed, in one step. If the block raises, nothing is,
        and the attempt fails as usual. Once a block has ended well, what the handler does or returns does not count.
        Raises `InvalidInput` if the job is completed already. Raises at the end, and rolls back: `TransactionLost` if
        the transaction is gone (see `connection`), `LeaseLost` if another daemon may have the job by then,
        `RowUnchanged` if a trigger keeps the job from being completed.
        """
        if self.settled:
            raise InvalidInput("transaction() has completed this job already; it can be used once")
        ended: list[tuple[Settlement, Settled]] = []
        ours = self._services.database.surroundings()
        with self._services.database.work() as conn:
            at_end = AtEnd(ours.path, lambda theirs: ended.append(self._complete(conn, ours.schema, theirs)))
            with work_transaction(conn, self.remaining_s(), at_end), block_of(self.job.lease):
                yield conn
        self.completed(*ended[0])

    def completed(self, settlement: Settlement, written: Settled) -> None:
        """Take note that a transaction of the handler's has settled this attempt, and is committed."""
        self.settled = True
        self._services.settled(settlement, written)

    def completion(self) -> Settlement:
        """Return the end of an attempt that completes its job."""
        return settle_result(self.job, None, self._started, time.monotonic(), reported=self.records_processed)

    def _complete(self, conn: Connection, schema: str | None, path: str) -> tuple[Settlement, Settled]:
        """Complete the job in the transaction of this connection, and put the handler's search path back."""
        settlement = self.completion()
        written = settle_within(conn, settlement, worker_id=self.worker_id, schema=schema, path=path)
        if not written.leases:
            raise self.ask_why_not_settled(settlement)
        failpoints.reach(failpoints.COMMITTING)
        return settlement, written

    def ask_why_not_settled(self, settlement: Settlement) -> AybJobsError:
        """Return what to raise for an ending that left the job as it was, by a look on a connection of our own."""
        with self._services.database.connection() as conn:
            return RowUnchanged() if find_held(conn, [settlement]) else self.not_held(conn)

    def not_held(self, conn: Connection) -> AybJobsError:
        """Take note that the lease is gone; return what to raise: `Stopped` if the job is to end canceled."""
        is_canceled = is_canceling(conn, self.job.lease)
        self.stop("canceled" if is_canceled else "lease_lost")
        return Stopped("canceled") if is_canceled else LeaseLost()

    def ask_why_not_held(self) -> AybJobsError:
        """Do what `not_held` does, on a connection of its own."""
        with self._services.database.connection() as conn:
            return self.not_held(conn)

    def step(self, name: str, run: Callable[[], Any]) -> Any:
        """Run a function once for the job, and return what it returned, in later attempts without running it again.

        What it returns is kept as JSON, and comes back so. A second step of the same name is the first. Before it runs,
        `check()` is called. If the process dies between its end and the keeping, a later attempt runs it again.

        Raises `LeaseLost` if another daemon may have the job by now, `Discard` if what it returned cannot be kept, and
        `InvalidInput` within a block of `connection()` or `transaction()`, whose rollback would not undo the step.
        """
        refuse_step_within_block(self.job.lease, name)
        steps = self.steps
        if (done := steps.find(name)) is not None:
            return done.value
        self.check()
        return self.keep_step(name, run())

    def keep_step(self, name: str, returned: object) -> Any:
        """Keep what a step returned, and return it as JSON gives it back."""
        try:
            return self.steps.keep(name, returned)
        except LeaseLost:
            raise self.ask_why_not_held() from None

    @property
    def steps(self) -> Steps:
        """The steps that are done."""
        if self._steps is None:
            self._steps = Steps(self.job.lease, self._services.database)
        return self._steps

    @property
    def checkpoint(self) -> Any:
        """The last checkpoint that `progress` was given, in this attempt or an earlier one; None if there is none."""
        return self.steps.checkpoint()

    def progress(
        self,
        records_processed: int | None = None,
        message: str | None = None,
        *,
        percent: float | None = None,
        checkpoint: Any = NOT_GIVEN,
    ) -> None:
        """Show how far the job is, and extend its lease by a full lease duration.

        `checkpoint` is JSON of the handler's own, of 64 KiB at most: `ctx.checkpoint` of a later attempt, so that it
        goes on from there. Committed at once, outside any transaction of the handler; so a checkpoint within a block of
        `connection()` or `transaction()` raises `InvalidInput`.

        Raises `LeaseLost` if another daemon may have the job by now; the handler should let that pass.
        """
        if checkpoint is not NOT_GIVEN:
            refuse_checkpoint_within_block(self.job.lease)
        if records_processed is not None:
            check_records(records_processed)
        if percent is not None:
            check_percent(percent)
        kept = None if checkpoint is NOT_GIVEN else encode_json(checkpoint, "checkpoint", MAX_RESULT_BYTES)
        if records_processed is not None:
            self.records_processed = records_processed
        told = {"records_processed": self.records_processed, "percent": percent, "message": message}
        text = encode_payload({key: value for key, value in told.items() if value is not None})
        lease, lease_s = self.job.lease, self._services.lease_s
        # Not a work connection: a handler that holds the last of them must still be able to extend its lease.
        with self._services.database.connection() as conn:
            if kept is None:
                held = report_progress(conn, lease, text, lease_s=lease_s)
            else:
                held = report_checkpoint(conn, lease, text, kept, lease_s=lease_s)
            if not held:
                raise self.not_held(conn)
        if kept is not None:
            self.steps.reached(kept)
