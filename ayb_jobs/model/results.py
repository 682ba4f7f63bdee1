"""What a handler may return: nothing, a number of records, a wish, or a result that is kept."""

from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

from ayb_jobs.errors import Discard, InvalidInput
from ayb_jobs.model.payload import encode_json

# What a column of PostgreSQL's bigint holds.
MOST_RECORDS = 2**63 - 1
# The least that a job waits because somebody else put it off, who would have it run again and again at once.
LEAST_LATER_S = 1.0
MOST_SNOOZE_S = 10 * 366 * 24 * 3600.0
MAX_RESULT_BYTES = 64 * 1024
MOST_PERCENT = 100


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


class Returned(NamedTuple):
    """A result that is kept: what the handler returned, as JSON text."""

    text: str


Result = None | int | Snooze | Cancel | Returned


def as_result(returned: object) -> Result:
    """Return what a handler's return value means.

    Raises `Discard` if it means nothing and cannot be kept either: the work is done, so another attempt would do it
    again and return the same.
    """
    if returned is None or isinstance(returned, Snooze | Cancel | Returned):
        return returned
    if type(returned) is int:
        if 0 <= returned <= MOST_RECORDS:
            return returned
        raise Discard(f"the handler returned {returned}; a count of records goes from 0 to {MOST_RECORDS}")
    try:
        return Returned(encode_json(returned, "result", MAX_RESULT_BYTES))
    except InvalidInput as error:
        raise Discard(f"what the handler returned cannot be kept: {error}") from None


def check_records(records: int) -> None:
    """Raise `InvalidInput` for what is no count."""
    if type(records) is not int or not 0 <= records <= MOST_RECORDS:
        raise InvalidInput(
            f"records_processed is {records!r:.100}; give a whole number, zero or more", field="records_processed"
        )


def check_percent(percent: float) -> None:
    """Raise `InvalidInput` for what is no percentage."""
    if isinstance(percent, bool) or not isinstance(percent, int | float) or not 0 <= percent <= MOST_PERCENT:
        raise InvalidInput(f"percent is {percent!r:.100}; give a number from 0 to 100", field="percent")
