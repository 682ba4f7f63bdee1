"""Some lines a second, counts beyond."""

import threading
from collections import Counter


class Burst:
    """Allows `most` lines in each second, and counts what had none until it is asked for the counts."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._second = 0
        self._said = 0
        self._uncounted_since: float | None = None
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def allow(self, wanted: int, now: float) -> int:
        """Return how many of `wanted` lines may be written in this second; `now` is on any steady clock."""
        with self._lock:
            if int(now) != self._second:
                self._second, self._said = int(now), 0
            allowed = min(wanted, self._most - self._said)
            self._said += allowed
            return allowed

    def count(self, counts: Counter[str], now: float) -> None:
        """Add what had no line, by kind."""
        with self._lock:
            self._counts.update(counts)
            if self._uncounted_since is None:
                self._uncounted_since = now

    def take(self, now: float) -> tuple[Counter[str], float]:
        """Return what had no line since the last call, and over how many seconds; begin anew."""
        with self._lock:
            counts, since = self._counts, self._uncounted_since
            self._counts, self._uncounted_since = Counter(), None
            return counts, 0.0 if since is None else now - since
