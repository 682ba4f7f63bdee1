"""Runs handlers: one thread, one job at a time. Whatever a handler does ends as one frozen settlement."""

import threading
import time
from collections.abc import Callable
from typing import Literal

from ayb_jobs import failpoints
from ayb_jobs.events import Emit
from ayb_jobs.handlers.context import JobContext
from ayb_jobs.handlers.job_type import JobType
from ayb_jobs.model.job import LeasedJob
from ayb_jobs.model.results import as_result
from ayb_jobs.runtime.jobs.attempts import Attempts, unknown
from ayb_jobs.runtime.jobs.buffer import Buffer
from ayb_jobs.runtime.jobs.in_flight import Held
from ayb_jobs.runtime.jobs.payloads import Payloads
from ayb_jobs.runtime.jobs.survival import Survival
from ayb_jobs.storage.faults import is_outage

Executor = Callable[[JobType, JobContext], object]
"""Runs a handler in the thread of the slot that asks, and returns what it returns, or raises what it raises."""

SlotState = Literal["idle", "busy", "stuck"]

# How much of the newest run counts in the average.
NEWEST = 0.1


class Slot:
    """One place for a handler: a thread that takes jobs from the buffer until it is closed.

    `execute` runs its handlers. `take` waits for the next job; if not given, the buffer does.
    Whatever fails, the thread goes on: it tells the failure, gives the job an ending, and pauses for a moment.
    """

    def __init__(
        self,
        *,
        name: str,
        buffer: Buffer,
        find: Callable[[str], JobType | None],
        execute: Executor,
        attempts: Attempts,
        payloads: Payloads,
        emit: Emit,
        take: Callable[[], Held | None] | None = None,
    ) -> None:
        self._buffer = buffer
        self._take = take or buffer.take
        self._find = find
        self._execute = execute
        self._attempts = attempts
        self._paused = attempts.paused
        self._payloads = payloads
        self._mean_s: float | None = None
        self._busy_since: float | None = None
        self._current: Held | None = None
        self._is_at_work = False
        self._pause_s = 0.0
        self._survival = Survival(name, attempts, emit)
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread to end; tell whether it has, or never began."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def has_ended(self) -> bool:
        """Whether the thread was started and is over."""
        return self._thread.ident is not None and not self._thread.is_alive()

    def mean_or_current_s(self, now: float) -> float | None:
        """Return how long a run takes on average, or the one that goes on has taken already if that is longer."""
        mean_s, busy_since = self._mean_s, self._busy_since
        if busy_since is None:
            return mean_s
        return max(now - busy_since, mean_s or 0.0)

    @property
    def current(self) -> Held | None:
        """The job whose handler runs, or whose payload is being fetched."""
        return self._current

    @property
    def state(self) -> SlotState:
        """What the slot does.

        Busy from the job it takes until that job's ending is handed over. Stuck if its handler was told to stop, did
        not, and its attempt was settled without it.
        """
        current = self._current
        if current is None:
            return "busy" if self._is_at_work else "idle"
        return "stuck" if current.abandoned else "busy"

    def _work(self) -> None:
        while not self._run_jobs():
            threading.Event().wait(self._pause_s)

    def _run_jobs(self) -> bool:
        """Run one job after the other until the slot is to end; return False if something fails outside a handler."""
        take, run, are_left = self._take, self._run, self._payloads.are_left
        held = None
        try:
            while (held := take()) is not None:
                self._is_at_work = True
                if held.lost and not held.sent:
                    self._attempts.give_up(held)
                elif are_left(held.job):
                    self._fetch_and_run(held)
                else:
                    run(held, held.job)
                self._is_at_work = False
                if self._pause_s:
                    self._recovered()
        except BaseException as error:  # whatever it is, the slot lives and tells
            self._pause_s = self._survival.failed(held, error)
            self._busy_since = self._current = None
            self._is_at_work = False
            return False
        return True

    def _recovered(self) -> None:
        self._pause_s = 0.0
        self._survival.worked()

    def _fetch_and_run(self, held: Held) -> None:
        """Run a job whose payload leasing left in the database. If there is no room for it in time, release the job."""
        self._current = held
        started = time.monotonic()
        try:
            fetched = self._payloads.fetch(held.job, lambda: held.lost or self._buffer.closed)
        except Exception as error:  # whatever it is, the slot lives and the attempt ends
            if is_outage(error):
                self._give_up(held)
            else:
                self._attempts.raised(
                    held, self._attempts.without_payload(held), error, started, self._note_end(started)
                )
            return
        if fetched is None:
            self._give_up(held)
            return
        try:
            if held.lost or self._buffer.closed:  # while it was fetched
                self._give_up(held)
                return
            self._run(held, fetched.job)
            if held.started:  # the payload need not wait for the settlement
                held.context = self._attempts.without_payload(held)
        finally:
            self._payloads.put_back(fetched)

    def _give_up(self, held: Held) -> None:
        self._current = None
        self._attempts.give_up(held)

    def _run(self, held: Held, job: LeasedJob) -> None:
        """Run a handler, and hand over how that ended. `job` is the held one with its whole payload."""
        if self._paused.any and not held.sent and self._paused.holds(job):
            self._give_up(held)
            return
        job_type = self._find(job.type)
        context = self._attempts.begin(held, job, job_type)
        self._busy_since = held.started
        self._current = held
        try:
            failpoints.reach(failpoints.BEGUN)
            result = as_result(self._execute(job_type, context) if job_type else unknown(job))
            failpoints.reach(failpoints.ENDED)
        except BaseException as error:  # even SystemExit ends an attempt, not the daemon
            self._attempts.raised(held, context, error, held.started, self._note_end(held.started))
        else:
            self._attempts.returned(held, context, result, self._note_end(held.started))

    def _note_end(self, started: float) -> float:
        ended = time.monotonic()
        run_s = ended - started
        self._mean_s = run_s if self._mean_s is None else self._mean_s + NEWEST * (run_s - self._mean_s)
        self._busy_since = None
        self._current = None
        return ended
