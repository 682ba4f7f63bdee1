"""One named thread that does one thing again and again, and survives whatever that throws at it."""

import threading
import time
from collections.abc import Callable

from ayb_jobs.events import Emit, LoopErrorRepeated, LoopFailed, LoopRecovered
from ayb_jobs.runtime.bell import Bell
from ayb_jobs.storage.faults import is_conflict, is_outage

FIRST_RETRY_S = 0.1
LONGEST_RETRY_S = 1.0
# So many conflicts in a row begin to be told.
MOST_CONFLICTS = 3
# A loop that goes on failing says so again after a minute, then after twice as long each time.
FIRST_REMINDER_S = 60.0
LONGEST_REMINDER_S = 3600.0


class Loop:
    """Calls `tick` in a thread of its own; `tick` returns the seconds until its next turn, which `bell` cuts short.

    A turn that raises is counted and tried again after 0.1 s, then twice as long each time up to 1 s: a database that
    comes back is used within a second. The first failure is told at once, and so is each new kind of error; the same
    kind is told again after a minute, then at growing intervals. Whatever a turn raises, `SystemExit` included, the
    thread goes on. `stop` may come twice, or before `start`. The first turn comes `first_after_s` seconds after the
    start.
    """

    def __init__(
        self,
        name: str,
        tick: Callable[[], float],
        emit: Emit,
        *,
        bell: Bell | None = None,
        first_after_s: float = 0.0,
    ) -> None:
        self.name = name
        self._tick = tick
        self._emit = emit
        self._bell = bell or Bell()
        self._stopped = threading.Event()
        self._has_turned = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._failures = Failures(name)
        self._first_after_s = first_after_s
        self._due = time.monotonic() + first_after_s

    def start(self) -> None:
        """Start the thread."""
        self._due = time.monotonic() + self._first_after_s
        self._thread.start()

    def await_first_turn(self, timeout_s: float) -> bool:
        """Wait until the first turn is over, whatever came of it, or the loop was told to stop; tell whether it is."""
        return self._has_turned.wait(timeout_s)

    def wake(self) -> None:
        """Have the next turn come at once."""
        self._bell.ring()

    def stop(self) -> None:
        """Let the turn that runs be the last. Does not wait for it."""
        self._stopped.set()
        self._has_turned.set()
        self._bell.ring()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait for the last turn to end; tell whether it has."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def stopped(self) -> bool:
        """Whether the loop was told to stop."""
        return self._stopped.is_set()

    @property
    def overdue_s(self) -> float:
        """For how many seconds a turn has been due, or under way, that has not succeeded yet."""
        return max(0.0, time.monotonic() - self._due)

    @property
    def failing(self) -> bool:
        """Whether the last turn failed."""
        return self._failures.count > 0

    @property
    def error(self) -> BaseException | None:
        """What the last turn failed with; None if it did not fail."""
        return self._failures.latest

    @property
    def waits_for_database(self) -> bool:
        """Whether the last turn failed because there is no database; no restart of this process would help."""
        return self._failures.outage

    def _run(self) -> None:
        if self._first_after_s:
            self._bell.wait(self._first_after_s)
        while not self._stopped.is_set():
            try:
                pause_s = self._turn()
                if not self._has_turned.is_set():
                    self._has_turned.set()
                self._bell.wait(pause_s)
            except BaseException:  # not even an exception from another thread ends this one
                self._stopped.wait(LONGEST_RETRY_S)

    def _turn(self) -> float:
        if not self._failures.count:
            self._due = time.monotonic()
        try:
            pause_s = self._tick()
        except BaseException as error:  # whatever it is, the loop lives and tells
            event = self._failures.another(error, time.monotonic())
            self._emit(event)
            return event.retry_s
        self._due = time.monotonic() + pause_s
        if self._failures.told:
            self._emit(LoopRecovered(loop=self.name, failures=self._failures.count))
        if self._failures.count:
            self._failures = Failures(self.name)
        return pause_s


class Failures:
    """A loop's failures since its last success: how many, and which of them are told."""

    def __init__(self, loop: str) -> None:
        self.count = 0
        self.latest: BaseException | None = None
        self.outage = False
        self.told = False
        self._loop = loop
        self._began = 0.0
        self._kinds: set[type[BaseException] | None] = set()
        self._reminder_s = FIRST_REMINDER_S
        self._remind_at = 0.0

    def another(self, error: BaseException, now: float) -> LoopFailed | LoopErrorRepeated:
        """Count a failure at `now`, on the monotonic clock; return the event that tells or counts it."""
        self._began = self._began if self.count else now
        retry_s = min(FIRST_RETRY_S * 2.0 ** min(self.count, 10), LONGEST_RETRY_S)
        self.count += 1
        self.latest = error
        self.outage = is_outage(error)
        # Another transaction won, or the server ended an idle session: the next turn does what this one could not.
        passes = is_conflict(error) and self.count < MOST_CONFLICTS
        if passes or not self._is_to_be_told(error, now):
            return LoopErrorRepeated(loop=self._loop, error=error, retry_s=retry_s)
        self.told = True
        return LoopFailed(
            loop=self._loop, error=error, retry_s=retry_s, failures=self.count, failing_s=now - self._began
        )

    def _is_to_be_told(self, error: BaseException, now: float) -> bool:
        kind = None if self.outage else type(error)  # an outage shows in many ways, and is one
        is_new = kind not in self._kinds
        is_time = now >= self._remind_at
        self._kinds.add(kind)
        if is_time and not is_new:
            self._reminder_s = min(2 * self._reminder_s, LONGEST_REMINDER_S)
        if is_time or is_new:
            self._remind_at = now + self._reminder_s
        return is_time or is_new
