"""When a floor must be forgotten for once.

Leasing and recovering look only above a floor, the last place where they found something, so that they never walk the
dead index entries below it; what appears below is found by a sweep from the bottom. A sweep costs more the more dead
entries there are, so sweeps come at intervals that keep them to a twentieth of the time.
"""

import time

SHARE = 0.05


class SweepClock:
    """Tells when the next sweep may come."""

    def __init__(self) -> None:
        self._next = 0.0

    def wait_s(self) -> float:
        """Return the seconds until a sweep may come; 0 where it may come now."""
        return max(0.0, self._next - time.monotonic())

    def swept(self, cost_s: float) -> None:
        """Note that a sweep has just ended, and what it cost."""
        self._next = time.monotonic() + cost_s * (1 / SHARE - 1)
