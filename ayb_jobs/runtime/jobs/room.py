"""How many jobs to lease now."""

from collections.abc import Callable

from ayb_jobs.runtime.jobs.buffer import Buffer
from ayb_jobs.runtime.jobs.in_flight import InFlight

# Jobs are leased ahead of a free slot only if they can start within this time.
AHEAD_S = 0.05
MOST_AHEAD = 1000
# So many endings may wait for a database that does not take them, before nothing more is leased.
MOST_UNSETTLED = 10_000


class Room:
    """Counts the jobs that there is room for: one for each idle slot, and what can start soon.

    `mean_run_s` tells how long a handler runs on average, as far as known.
    """

    def __init__(
        self, *, buffer: Buffer, in_flight: InFlight, concurrency: int, mean_run_s: Callable[[], float | None]
    ) -> None:
        self._buffer = buffer
        self._in_flight = in_flight
        self._mean_run_s = mean_run_s
        self.resize(concurrency)

    def resize(self, concurrency: int) -> None:
        """Count for so many slots from now on."""
        self._concurrency = concurrency
        self._most_held = concurrency + MOST_AHEAD + MOST_UNSETTLED

    def jobs(self) -> int:
        """Return how many jobs to lease now; never more than may be held."""
        run_s = self._mean_run_s()
        ahead = min(int(self._concurrency * AHEAD_S / run_s), MOST_AHEAD) if run_s else 0
        self._buffer.low_mark = ahead // 2
        waiting = len(self._buffer)
        if waiting > ahead // 2:
            return 0  # a half-full buffer is refilled in one large batch, later
        return min(self._buffer.idle + ahead - waiting, self._most_held - len(self._in_flight))
