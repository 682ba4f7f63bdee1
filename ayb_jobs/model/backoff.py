"""How long a retry waits: AYB's rule, min(5 s × 2^(n−1), 5 min) plus a random 0–1 s after attempt n."""

from ayb_jobs.frozen import frozen

LONGEST_APART_S = 3600.0


@frozen
class Backoff:
    """An exponential backoff, in seconds.

    `apart_s` is about crashes: jobs whose next one would be their last begin at random times within so long, or within
    ten times as long as they had run. One of those that were lost together may be what kills the process, and the
    others are not to be beside it each time.
    """

    base_s: float = 5.0
    most_s: float = 300.0
    jitter_s: float = 1.0
    apart_s: float = 30.0

    def delay_s(self, attempt: int, chance: float) -> float:
        """Return the wait after attempt number `attempt` (from 1); `chance` is a random number from 0 to 1."""
        doublings = min(max(attempt, 1) - 1, 60)  # beyond that the cap has long been reached, and floats overflow
        return min(self.base_s * 2.0**doublings, self.most_s) + self.jitter_s * chance

    def apart_delay_s(self, ran_s: float, chance: float) -> float:
        """Return the wait before a job's last chance after crashes, the last of them `ran_s` seconds into its run."""
        return chance * min(LONGEST_APART_S, self.apart_s * max(1.0, ran_s / 3))
