"""What a schedule is: as asked for (`NewSchedule`), as an operator sees it (`Schedule`), and what may be changed."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from ayb_jobs.errors import InvalidInput
from ayb_jobs.model.job import MAX_ATTEMPTS, MAX_NAME, PRIORITIES, checked_name, checked_text
from ayb_jobs.model.payload import encode_payload
from ayb_jobs.model.schedules.cron import Dst, check_cron

MAX_CATCHUP = 1000
MAX_PING_URL = 1000
MAX_CRON = 100
MAX_TIMEZONE = 50
DAY_S = 86400.0
# What an interval of PostgreSQL surely holds, and nobody needs.
MOST_S = 100 * 366 * DAY_S


# `broken` cannot be read or never fires; `dormant` fires next in more than five years; `ended` has no fire left.
SCHEDULE_STATES = ("enabled", "disabled", "broken", "dormant", "ended")


class Catchup(StrEnum):
    """What becomes of fires that were missed: one job for all of them, one for each within bounds, or none."""

    LATEST = "latest"
    ALL = "all"
    SKIP = "skip"


class Overlap(StrEnum):
    """What a fire does while a job of an earlier one has not ended."""

    ALLOW = "allow"
    SKIP = "skip"
    QUEUE_ONE = "queue_one"
    CANCEL_RUNNING = "cancel_running"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSchedule:
    """A schedule to be created. Raises `InvalidInput`, naming the field, where a value cannot be used.

    `max_attempts` None leaves the number to whoever creates it. `catchup_max` and `catchup_window_s` bound
    `catchup = "all"`: so many of the latest missed fires, and none older than that.
    """

    name: str
    job_type: str
    cron: str
    timezone: str = "UTC"
    payload: Any = field(default_factory=dict)
    enabled: bool = True
    max_attempts: int | None = None
    queue: str = "default"
    priority: int = 2
    catchup: str = Catchup.LATEST
    catchup_max: int = 100
    catchup_window_s: float = DAY_S
    overlap: str = Overlap.ALLOW
    dst: str = Dst.ONCE
    jitter_s: float = 0.0
    timeout_s: float | None = None
    expect_success_within_s: float | None = None
    ping_url: str | None = None

    def __post_init__(self) -> None:
        check_values({name: getattr(self, name) for name in FIELDS})

    @property
    def payload_text(self) -> str:
        """The payload as JSON; raises `InvalidInput` where it is none."""
        return encode_payload(self.payload)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A schedule as an operator sees it. `payload_text` is the payload's JSON as stored.

    `next_run_at` is None while it is broken or ended; a disabled one may show when it would run. `last_error` says why
    it is broken. `origin` is `shipped` if packs or the settings define it, `edited` if an operator has changed such a
    one, otherwise `operator`. `state` is one of `SCHEDULE_STATES`.
    """

    id: str
    name: str
    job_type: str
    payload_text: str
    cron: str
    timezone: str
    enabled: bool
    max_attempts: int
    queue: str
    priority: int
    catchup: str
    catchup_max: int
    catchup_window_s: float
    overlap: str
    dst: str
    jitter_s: float
    timeout_s: float | None
    expect_success_within_s: float | None
    ping_url: str | None
    origin: str
    state: str
    next_run_at: datetime | None
    last_run_at: datetime | None
    last_fire_at: datetime | None
    last_error: str | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What a field takes: as a check that raises `InvalidInput`, and as a JSON schema.

    `optional` ones take null, too.
    """

    check: Callable[[str, Any], None]
    schema: Mapping[str, Any]
    optional: bool = False


def check_values(values: Mapping[str, Any]) -> None:
    """Raise `InvalidInput` for the first value that a schedule cannot have; `values` may be any part of its fields."""
    for name, value in values.items():
        if name not in FIELDS:
            raise InvalidInput(f"a schedule has no {name}; it has {', '.join(sorted(FIELDS))}", field=name)
        if value is not None or not FIELDS[name].optional:
            FIELDS[name].check(name, value)
    if "cron" in values or "timezone" in values:
        check_cron(values.get("cron", "@daily"), values.get("timezone", "UTC"))


def _check_text(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise InvalidInput(f"{name} is {value!r}; a text is needed", field=name)


def _check_name(name: str, value: Any) -> None:
    _check_text(name, value)
    checked_name(value, name)


def _check_payload(_: str, value: Any) -> None:
    encode_payload(value)


def _check_flag(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise InvalidInput(f"{name} is {value!r}; it is true or false", field=name)


def _check_url(name: str, value: Any) -> None:
    _check_text(name, value)
    if not checked_text(value, name, MAX_PING_URL).startswith(("http://", "https://")):
        raise InvalidInput(f"{name} is not an http:// or https:// address", field=name)


def _text(most: int, check: Callable[[str, Any], None] = _check_text, *, optional: bool = False) -> Rule:
    return Rule(check=check, schema={"type": "string", "minLength": 1, "maxLength": most}, optional=optional)


def _whole_number(most: int, *, optional: bool = False) -> Rule:
    def check(name: str, value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise InvalidInput(f"{name} is {value!r}; it goes from 1 to {most}", field=name)

    return Rule(check=check, schema={"type": "integer", "minimum": 1, "maximum": most}, optional=optional)


def _choice(choices: type[StrEnum]) -> Rule:
    def check(name: str, value: Any) -> None:
        if value not in list(choices):
            raise InvalidInput(f"{name} is {value!r}; it is one of {', '.join(choices)}", field=name)

    return Rule(check=check, schema={"type": "string", "enum": [str(choice) for choice in choices]})


def _seconds(least: float, most: float = MOST_S, *, optional: bool = False) -> Rule:
    def check(name: str, value: Any) -> None:
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not number or not least <= value <= most:
            raise InvalidInput(
                f"{name} is {value!r}; a number of seconds from {least:g} to {most:g} is needed", field=name
            )

    return Rule(check=check, schema={"type": "number", "minimum": least, "maximum": most}, optional=optional)


# A schedule's fields as they can be said, once: the API's bodies, their documentation, the command line's names and the
# definitions of shipped schedules are derived from here.
FIELDS: Mapping[str, Rule] = {
    "name": _text(MAX_NAME, _check_name),
    "job_type": _text(MAX_NAME, _check_name),
    "cron": _text(MAX_CRON),
    "timezone": _text(MAX_TIMEZONE),
    "payload": Rule(check=_check_payload, schema={}),
    "enabled": Rule(check=_check_flag, schema={"type": "boolean"}),
    "max_attempts": _whole_number(MAX_ATTEMPTS, optional=True),
    "queue": _text(MAX_NAME, _check_name),
    "priority": _whole_number(max(PRIORITIES)),
    "catchup": _choice(Catchup),
    "catchup_max": _whole_number(MAX_CATCHUP),
    "catchup_window_s": _seconds(1),
    "overlap": _choice(Overlap),
    "dst": _choice(Dst),
    "jitter_s": _seconds(0, DAY_S),
    "timeout_s": _seconds(0.001, optional=True),
    "expect_success_within_s": _seconds(1, optional=True),
    "ping_url": _text(MAX_PING_URL, _check_url, optional=True),
}
# What a definition says of a schedule, beside its name and its payload.
DEFINED = tuple(name for name in FIELDS if name not in {"name", "payload"})
# What decides when a schedule fires: a change of it makes the past none of its business.
TIMING = frozenset({"cron", "timezone", "dst"})


def defined_values(schedule: NewSchedule | Schedule) -> dict[str, Any]:
    """Return what is defined of a schedule, by field, without its name and its payload."""
    values = {name: getattr(schedule, name) for name in DEFINED}
    return {name: str(value) if isinstance(value, StrEnum) else value for name, value in values.items()}
