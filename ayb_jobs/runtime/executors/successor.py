"""The child process that takes another's place, begun while the other still runs handlers."""

import threading
from collections.abc import Callable
from contextlib import suppress

from ayb_jobs.runtime.executors.child_process import Child

# It is begun once the other's last handlers take no longer than this: about as long as a start on a busy machine.
SOON_S = 0.05


class Successor:
    """One child that a thread of its own begins."""

    def __init__(self, begin: Callable[[], Child]) -> None:
        self._child: Child | None = None
        self._thread = threading.Thread(target=self._begin, args=(begin,), name="child-successor", daemon=True)
        self._thread.start()

    def take(self) -> Child | None:
        """Return the child once it is there; None if it cannot be begun, which whoever begins another will meet."""
        self._thread.join()
        return self._child

    def _begin(self, begin: Callable[[], Child]) -> None:
        with suppress(Exception):
            self._child = begin()
