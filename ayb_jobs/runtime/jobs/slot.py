"""Runs handlers: one thread, one job at a time. Whatever a handler does ends as one frozen settlement."""

import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from ayb_jobs import failpoints
from ayb_jobs.errors import AybJobsError, Discard, PayloadUndecodable
from ayb_jobs.handlers.context import ContextServices, JobContext
from ayb_jobs.handlers.job_type import JobType
from ayb_jobs.model.backoff import Backoff
from ayb_jobs.model.job import LeasedJob
from ayb_jobs.model.lifecycle import Outcome, Settlement, settle_failure, settle_result
from ayb_jobs.model.results import MOST_RECORDS, Cancel, Result, Snooze
from ayb_jobs.runtime.executors import Executor
from ayb_jobs.runtime.jobs.buffer import Buffer
from ayb_jobs.runtime.jobs.error_text import error_text
from ayb_jobs.runtime.jobs.in_flight import Held
from ayb_jobs.runtime.jobs.payloads import Payloads
from ayb_jobs.storage.faults import is_outage

SlotState = Literal["idle", "busy", "stuck"]

# How much of the newest run counts in the average.
NEWEST = 0.1


class Endings(NamedTuple):
    """Who is told how attempts end.

    `settle` takes the ending of each attempt. `release` takes back a job whose handler never began, or ended because
    the daemon stops, so that the attempt is not counted.
    """

    settle: Callable[[Held, Settlement], None]
    release: Callable[[Held], None]


class Slot:
    """One of `worker_concurrency` places for a handler: a thread that takes jobs from the buffer until it is closed.

    `executors` are what can run a handler, by name.
    """

    def __init__(
        self,
        *,
        name: str,
        buffer: Buffer,
        find: Callable[[str], JobType | None],
        executors: Mapping[str, Executor],
        services: ContextServices,
        backoff: Backoff,
        payloads: Payloads,
        endings: Endings,
    ) -> None:
        self._buffer = buffer
        self._find = find
        self._executors = executors
        self._services = services
        self._backoff = backoff
        self._payloads = payloads
        self._settle = endings.settle
        self._release = endings.release
        self._mean_s: float | None = None
        self._busy_since: float | None = None
        self._current: Held | None = None
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread to end; tell whether it has, or never began."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def mean_or_current_s(self, now: float) -> float | None:
        """Return how long a run takes on average, or the one that goes on has taken already if that is longer."""
        mean_s, busy_since = self._mean_s, self._busy_since
        if busy_since is None:
            return mean_s
        return max(now - busy_since, mean_s or 0.0)

    @property
    def state(self) -> SlotState:
        """What the slot does.

        Stuck where its handler was told to stop, did not, and its attempt was settled without it.
        """
        current = self._current
        if current is None:
            return "idle"
        return "stuck" if current.abandoned else "busy"

    def _work(self) -> None:
        take = self._buffer.take
        while (held := take()) is not None:
            if held.lost:
                continue
            if self._payloads.are_left(held.job):
                self._fetch_and_run(held)
            else:
                self._run(held, held.job)

    def _fetch_and_run(self, held: Held) -> None:
        """Run a job whose payload leasing left in the database. Where there is no room for it in time, give it back."""
        self._current = held
        started = time.monotonic()
        try:
            fetched = self._payloads.fetch(held.job, lambda: held.lost or self._buffer.closed)
        except Exception as error:  # whatever it is, the slot lives and the attempt ends
            if is_outage(error):
                self._give_up(held)
            else:
                self._fail(held, JobContext(held.job, self._services), error, started)
            return
        if fetched is None:
            self._give_up(held)
            return
        try:
            if held.lost or self._buffer.closed:  # while it was fetched
                self._give_up(held)
                return
            self._run(held, fetched.job)
            held.context = JobContext(held.job, self._services)  # the payload need not wait for the settlement
        finally:
            self._payloads.put_back(fetched)

    def _give_up(self, held: Held) -> None:
        """Give back a job whose handler never began, with its attempt; releasing tells if its lease is lost."""
        self._current = None
        if not held.lost:
            self._release(held)

    def _run(self, held: Held, job: LeasedJob) -> None:
        """Run a handler, and hand over how that ended. `job` is the held one with its whole payload."""
        job_type = self._find(job.type)
        started = time.monotonic()
        timeout_s = job.timeout_s or (job_type.timeout_s if job_type else None)
        context = JobContext(job, self._services, started + timeout_s if timeout_s else None)
        held.started = self._busy_since = started
        held.context = context
        self._current = held
        if held.lost:  # since it was taken from the buffer; who let it go may have seen no context to tell
            context.stop("lease_lost")
        try:
            failpoints.reach(failpoints.BEGUN)
            result = checked(
                self._executors[job_type.executor](job_type, readable(context)) if job_type else unknown(job)
            )
            failpoints.reach(failpoints.ENDED)
            ended = self._note_end(started)
            if result is None:
                result = context.records_processed
            settlement = settle_result(held.job, result, started, ended)
        except BaseException as error:  # even SystemExit ends an attempt, not the daemon
            self._fail(held, context, error, started)
        else:
            if not held.abandoned and not context.settled:
                self._settle(held, settlement)

    def _fail(self, held: Held, context: JobContext, error: BaseException, started: float) -> None:
        ended = self._note_end(started)
        if held.abandoned or context.settled:
            return
        if context.stop_reason == "shutdown" and not isinstance(error, Discard):
            self._release(held)
            return
        self._settle(
            held,
            settle_failure(
                held.job,
                error_text(error),
                started,
                ended,
                backoff=self._backoff,
                chance=random.random(),
                outcome=outcome_of(error, context),
                records=context.records_processed,
            ),
        )

    def _note_end(self, started: float) -> float:
        ended = time.monotonic()
        run_s = ended - started
        self._mean_s = run_s if self._mean_s is None else self._mean_s + NEWEST * (run_s - self._mean_s)
        self._busy_since = None
        self._current = None
        return ended


def readable(context: JobContext) -> JobContext:
    """Decode the payload before the handler runs, so that a payload nobody can read is told apart from its faults."""
    _ = context.payload
    return context


def unknown(job: LeasedJob) -> Result:
    """Fail a job of a type that is not registered; the producer leases none."""
    raise AybJobsError(f"no handler is registered for job type {job.type}")


def checked(result: object) -> Result:
    """Return a handler's result, or raise TypeError where it is none of those that it may return."""
    if result is None or isinstance(result, Snooze | Cancel) or (type(result) is int and 0 <= result <= MOST_RECORDS):
        return result
    raise TypeError(
        f"the handler returned {type(result).__name__} {result!r:.100}; it may return nothing, a count of records,"
        " Snooze(…) or Cancel(…)"
    )


def outcome_of(error: BaseException, context: JobContext) -> Outcome:
    """Tell how an attempt ended that ended with this exception."""
    if isinstance(error, Discard | PayloadUndecodable):
        return Outcome.DISCARDED
    return Outcome.TIMED_OUT if context.stop_reason == "timeout" else Outcome.FAILED
