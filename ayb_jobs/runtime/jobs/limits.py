"""What a daemon knows of the limits."""

import threading


class Limits:
    """Whether there are limits. Until it is known that there are none, jobs are leased beside them."""

    def __init__(self, *, exist: bool | None = None) -> None:
        self.exist = exist is not False
        self.known = exist is not None
        self._lock = threading.Lock()

    def learn(self, *, exist: bool) -> None:
        """Take it from the watch, whose word is the newest."""
        with self._lock:
            self.exist, self.known = exist, True

    def learn_first(self, *, exist: bool) -> None:
        """Take it from whoever looked before the watch did; a word of the watch stands."""
        with self._lock:
            if not self.known:
                self.exist, self.known = exist, True
