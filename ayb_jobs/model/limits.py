"""Limits: how many jobs of some types run at once, and how many start in some time."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from ayb_jobs.errors import InvalidInput
from ayb_jobs.frozen import frozen
from ayb_jobs.model.checked import checked_name

MOST = 1_000_000
UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86400}
RATE = re.compile(r"(\d{1,7})/(\d{0,5})(s|min|h|d)", re.ASCII)
LONGEST = timedelta(days=36500)
RATE_HELP = "give starts in a time, such as 5/s, 100/min, 1000/h or 1/15min"


def rate_interval(rate: str, field_name: str) -> timedelta:
    """Return the time between two starts at a rate, rounded up, so that the rate is never exceeded."""
    found = RATE.fullmatch(rate)
    if found is None:
        raise InvalidInput(f"{field_name} is {rate!r}; {RATE_HELP}", field=field_name)
    starts, many, unit = int(found[1]), int(found[2] or 1), found[3]
    microseconds = many * UNITS[unit] * 1_000_000
    if not 1 <= starts <= microseconds:
        raise InvalidInput(
            f"{field_name} is {rate!r}; from one start on to a million a second are possible", field=field_name
        )
    return timedelta(microseconds=-(-microseconds // starts))


@frozen
class NewLimit:
    """A limit that is asked for. Raises `InvalidInput` for values of no use.

    `max_running` and `rate` are over all its jobs, `key_max_running` and `key_rate` for each key. The key of a job is
    what its enqueuer gave, else the payload's `key_field`.
    """

    name: str
    types: Sequence[str]
    key_field: str | None = None
    max_running: int | None = None
    key_max_running: int | None = None
    rate: str | None = None
    burst: int = 1
    key_rate: str | None = None
    key_burst: int = 1

    def __post_init__(self) -> None:
        if "/" in checked_name(self.name, "name"):  # the pause of a key is named LIMIT/KEY
            raise InvalidInput("name has a slash; a limit's name is without", field="name")
        if isinstance(self.types, str) or not self.types:
            raise InvalidInput("types is empty; name the job types that it limits", field="types")
        for job_type in self.types:
            checked_name(job_type, "types")
        if self.key_field is not None:
            checked_name(self.key_field, "key_field")
        for name in ("max_running", "key_max_running"):
            _check_number(name, getattr(self, name), 0)
        _check_rate("", self.rate, self.burst)
        _check_rate("key_", self.key_rate, self.key_burst)
        if (self.max_running, self.key_max_running, self.rate, self.key_rate) == (None, None, None, None):
            raise InvalidInput(
                "nothing is limited; give max_running, key_max_running, rate or key_rate", field="max_running"
            )

    @classmethod
    def stored(cls, **columns: Any) -> "NewLimit":
        """Return a limit as the database has it, whatever plain SQL has written."""
        limit = object.__new__(cls)
        for name, value in columns.items():
            object.__setattr__(limit, name, value)
        return limit

    def definition(self) -> dict[str, Any]:
        """Return all but the name, as JSON holds it; two limits with the same one are alike."""
        fields = asdict(self)
        del fields["name"]
        return fields | {"types": sorted(set(self.types))}


def _check_rate(prefix: str, rate: str | None, burst: int) -> None:
    _check_number(f"{prefix}burst", burst, 1)
    if rate is None:
        if burst != 1:
            raise InvalidInput(f"{prefix}burst is given without {prefix}rate; give both", field=f"{prefix}burst")
        return
    if burst * rate_interval(rate, f"{prefix}rate") > LONGEST:
        told = f"{prefix}burst times the time between two starts is over a century"
        raise InvalidInput(told, field=f"{prefix}burst")


def _check_number(name: str, value: Any, least: int) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MOST:
        raise InvalidInput(f"{name} is {value!r}; give a whole number from {least} to {MOST}", field=name)


@frozen
class Limit:
    """A limit as an operator sees it.

    `waiting` counts the jobs that wait under it, up to 10,000: if it is `cut`, at least so many do. `running` counts
    those that run. `tokens` are the starts that its rate allows now; None if it has none. `waiting_for` names the live
    daemons that have not confirmed it: they may still start jobs beside it.
    """

    new: NewLimit
    set_by: str
    set_at: datetime
    waiting: int
    running: int
    tokens: int | None
    waiting_for: Sequence[str]
    cut: bool = False

    @property
    def words(self) -> str:
        """Say what it allows, in one line."""
        return limit_words(self.new.definition())


def limit_words(definition: Mapping[str, Any]) -> str:
    """Say what a limit allows, in one line."""
    parts = []
    for prefix, of in (("", ""), ("key_", " for each key")):
        if (most := definition[f"{prefix}max_running"]) is not None:
            parts.append(f"{most} at once{of}")
        if (rate := definition[f"{prefix}rate"]) is not None:
            burst = definition[f"{prefix}burst"]
            parts.append(f"{rate}{of}" + (f" (burst {burst})" if burst != 1 else ""))
    return ", ".join(parts)
