"""Cuts a loop's wait short. It is made before the parts and the loops, so that any part may ring it."""

import threading


class Bell:
    """One loop waits for it, and anyone may ring it. A ring that comes between two waits ends the second at once."""

    def __init__(self) -> None:
        self._rung = threading.Condition()
        self._has_rung = False

    def ring(self) -> None:
        """End the wait under way, or the next one."""
        if not self._has_rung:
            with self._rung:
                self._has_rung = True
                self._rung.notify()

    def wait(self, seconds: float) -> None:
        """Wait for a ring, for `seconds` at most; return at once if there was one since the last wait."""
        with self._rung:
            if not self._has_rung and seconds > 0:
                self._rung.wait(min(seconds, threading.TIMEOUT_MAX))
            self._has_rung = False
