"""What a handler may return besides nothing and a number of records: a wish, not a failure."""

from dataclasses import dataclass
from datetime import timedelta

from ayb_jobs.errors import InvalidInput

# What a column of PostgreSQL's bigint holds.
MOST_RECORDS = 2**63 - 1
MOST_SNOOZE_S = 10 * 366 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Snooze:
    """Run the job again after `delay` (seconds or a timedelta, ten years at most).

    The attempt is not held against it.
    """

    delay: float | timedelta

    def __post_init__(self) -> None:
        if not 0 <= self.seconds <= MOST_SNOOZE_S:
            raise InvalidInput(f"Snooze({self.delay!r}) cannot be; give from 0 s to ten years", field="delay")

    @property
    def seconds(self) -> float:
        """The delay in seconds."""
        return self.delay.total_seconds() if isinstance(self.delay, timedelta) else float(self.delay)


@dataclass(frozen=True, slots=True)
class Cancel:
    """End the job as canceled, for the reason given."""

    reason: str = "canceled by its handler"

    def __post_init__(self) -> None:
        if not isinstance(self.reason, str):
            raise InvalidInput(f"Cancel({self.reason!r:.100}) gives no reason; give a text", field="reason")


Result = None | int | Snooze | Cancel
