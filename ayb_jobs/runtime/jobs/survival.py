"""Keeps what runs handlers alive, whatever fails around a handler: the job gets an ending, and the failure is told."""

import time

from ayb_jobs.events import Emit, LoopRecovered
from ayb_jobs.runtime.jobs.attempts import Attempts
from ayb_jobs.runtime.jobs.in_flight import Held
from ayb_jobs.runtime.loop import Failures


class Survival:
    """Takes the failures of one slot, or of the event loop, by its `name`. To be called by one thread."""

    def __init__(self, name: str, attempts: Attempts, emit: Emit) -> None:
        self._name = name
        self._attempts = attempts
        self._emit = emit
        self._failures = Failures(name)

    def failed(self, held: Held | None, error: BaseException) -> float:
        """Tell a failure, and hand over an ending of the job if it has none; return the seconds until another try."""
        pause_s = self._tell(error)
        if held is not None:
            try:
                self._attempts.dropped(held, error)
            except BaseException as another:  # the lease runs out, and the job is recovered
                self._tell(another)
        return pause_s

    def worked(self) -> None:
        """Take note of a success; tell it if failures were told."""
        if self._failures.count:
            if self._failures.told:
                self._emit(LoopRecovered(loop=self._name, failures=self._failures.count))
            self._failures = Failures(self._name)

    def _tell(self, error: BaseException) -> float:
        event = self._failures.another(error, time.monotonic())
        self._emit(event)
        return event.retry_s
