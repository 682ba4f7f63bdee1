"""How long a look waits for the rows of limits that somebody holds.

Looks at the same limit meet for some milliseconds, so each waits for the other. But a transaction may hold many limits
for hours, and plain jobs come after the same look: so one wait in vain is followed by a second without any.
"""

import time

WAIT_S = 0.05
NO_WAIT_S = 0.001
CALM_S = 1.0
# A limit that was not had is asked for again so soon.
RETRY_S = 0.2


class HeldLimits:
    """The limits that this daemon did not get lately."""

    def __init__(self) -> None:
        self._wait_again = 0.0
        self._until: dict[str, float] = {}

    def wait_s(self) -> float:
        """Return how long to wait for a limit's row."""
        return WAIT_S if time.monotonic() >= self._wait_again else NO_WAIT_S

    def rest_s(self, name: str) -> float:
        """Return how long a limit is to be left alone; 0 if it may be asked for."""
        return max(0.0, self._until.get(name, 0.0) - time.monotonic())

    def missed(self, name: str) -> None:
        """Note that a limit was not had."""
        now = time.monotonic()
        if now >= self._wait_again:
            self._wait_again = now + CALM_S
        self._until[name] = now + RETRY_S

    def had(self, name: str) -> None:
        """Note that a limit was had."""
        self._until.pop(name, None)

    def clear(self) -> None:
        """Forget all of them, since no job waits."""
        self._until.clear()
