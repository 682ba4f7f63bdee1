"""What a handler may return besides nothing and a number of records: a wish, not a failure."""

from dataclasses import dataclass
from datetime import timedelta

from ayb_jobs.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Snooze:
    """Run the job again after `delay` (seconds or a timedelta); the attempt is not held against it."""

    delay: float | timedelta

    def __post_init__(self) -> None:
        if self.seconds < 0:
            raise InvalidInput(f"Snooze({self.delay!r}) lies in the past; give zero or more seconds", field="delay")

    @property
    def seconds(self) -> float:
        """The delay in seconds."""
        return self.delay.total_seconds() if isinstance(self.delay, timedelta) else float(self.delay)


@dataclass(frozen=True, slots=True)
class Cancel:
    """End the job as canceled, for the reason given."""

    reason: str = "canceled by its handler"


Result = None | int | Snooze | Cancel
