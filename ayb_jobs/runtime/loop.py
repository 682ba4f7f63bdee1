"""One named thread that does one thing again and again, and survives whatever that throws at it."""

import threading
import time
from collections.abc import Callable

from ayb_jobs.events import LoopErrorRepeated, LoopFailed, LoopRecovered

FIRST_RETRY_S = 0.1
LONGEST_RETRY_S = 1.0


class Loop:
    """Calls `tick` in a thread of its own; `tick` returns the seconds until its next turn.

    A turn that raises is reported once, counted, and tried again after 0.1 s, then twice as long each time up to 1 s:
    a database that comes back is used within a second. `stop` may come twice, or before `start`. The first turn comes
    `first_after_s` seconds after the start.
    """

    def __init__(
        self, name: str, tick: Callable[[], float], emit: Callable[[object], None], *, first_after_s: float = 0.0
    ) -> None:
        self.name = name
        self._tick = tick
        self._emit = emit
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._failures = 0
        self._first_after_s = first_after_s
        self._next_turn = time.monotonic() + first_after_s

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Have the next turn come at once."""
        self._wake.set()

    def stop(self) -> None:
        """Let the turn that runs be the last. Does not wait for it."""
        self._stopped.set()
        self._wake.set()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait for the last turn to end; tell whether it has."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def overdue_s(self) -> float:
        """How many seconds ago the next turn should have begun, or the turn that runs did begin."""
        return max(0.0, time.monotonic() - self._next_turn)

    @property
    def failing(self) -> bool:
        """Whether the last turn failed."""
        return self._failures > 0

    def _run(self) -> None:
        if self._first_after_s:
            self._wake.wait(self._first_after_s)
        while not self._stopped.is_set():
            self._wake.clear()
            self._next_turn = time.monotonic()
            pause_s = self._turn()
            self._next_turn = time.monotonic() + pause_s
            if pause_s > 0:
                self._wake.wait(min(pause_s, threading.TIMEOUT_MAX))

    def _turn(self) -> float:
        try:
            pause_s = self._tick()
        except Exception as error:  # noqa: BLE001 - whatever it is, the loop lives and tells
            return self._failed(error)
        if self._failures:
            self._emit(LoopRecovered(loop=self.name, failures=self._failures))
            self._failures = 0
        return pause_s

    def _failed(self, error: Exception) -> float:
        retry_s = min(FIRST_RETRY_S * 2.0 ** min(self._failures, 10), LONGEST_RETRY_S)
        self._failures += 1
        if self._failures == 1:
            self._emit(LoopFailed(loop=self.name, error=error, retry_s=retry_s))
        else:
            self._emit(LoopErrorRepeated(loop=self.name, error=error))
        return retry_s
