"""A schedule's fields: what each means, takes and defaults to. Cron expressions are read elsewhere (`cron`)."""

import math
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

from ayb_jobs.errors import InvalidInput
from ayb_jobs.frozen import frozen
from ayb_jobs.model.checked import MAX_NAME, checked_name, checked_text
from ayb_jobs.model.job import PRIORITIES
from ayb_jobs.model.new_job import MAX_ATTEMPTS
from ayb_jobs.model.payload import encode_payload
from ayb_jobs.model.web_address import is_http

MAX_CATCHUP = 1000
MAX_PING_URL = 1000
MAX_CRON = 100
MAX_TIMEZONE = 50
DAY_S = 86400
# What an interval of PostgreSQL surely holds, and nobody needs.
MOST_S = 100 * 366 * DAY_S
# Stands where a field has no default.
REQUIRED: Any = ...


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


class Dst(StrEnum):
    """What a schedule with a fixed hour does when clocks change."""

    ONCE = "once"
    SKIP = "skip"
    BOTH = "both"


@frozen
class Rule:
    """What a field means, what it is if nothing is said of it, and what it takes.

    What it takes is told as a check that raises `InvalidInput`, and as a JSON schema. `optional` ones take null, too.
    """

    meaning: str
    check: Callable[[str, Any], None]
    schema: Mapping[str, Any]
    default: Any = REQUIRED
    optional: bool = False


def check_value(name: str, value: Any) -> None:
    """Raise `InvalidInput` if a schedule's field cannot have this value."""
    if name not in FIELDS:
        raise InvalidInput(f"a schedule has no {name}; it has {', '.join(sorted(FIELDS))}", field=name)
    if value is not None or not FIELDS[name].optional:
        FIELDS[name].check(name, value)


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
    if not is_http(checked_text(value, name, MAX_PING_URL)):
        raise InvalidInput(f"{name} is not an http:// or https:// address", field=name)


def _text(meaning: str, most: int, check: Callable[[str, Any], None] = _check_text, **more: Any) -> Rule:
    return Rule(meaning=meaning, check=check, schema={"type": "string", "minLength": 1, "maxLength": most}, **more)


def _whole_number(meaning: str, most: int, **more: Any) -> Rule:
    def check(name: str, value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise InvalidInput(f"{name} is {value!r}; it goes from 1 to {most}", field=name)

    return Rule(meaning=meaning, check=check, schema={"type": "integer", "minimum": 1, "maximum": most}, **more)


def _choice(meaning: str, default: StrEnum) -> Rule:
    choices = type(default)

    def check(name: str, value: Any) -> None:
        if value not in list(choices):
            raise InvalidInput(f"{name} is {value!r}; it is one of {', '.join(choices)}", field=name)

    schema = {"type": "string", "enum": [str(choice) for choice in choices]}
    return Rule(meaning=meaning, check=check, schema=schema, default=str(default))


def _seconds(meaning: str, least: float, most: float = MOST_S, **more: Any) -> Rule:
    def check(name: str, value: Any) -> None:
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not number or not least <= value <= most:
            raise InvalidInput(f"{name} is {value!r}; a number of seconds from {least} to {most} is needed", field=name)

    return Rule(meaning=meaning, check=check, schema={"type": "number", "minimum": least, "maximum": most}, **more)


# A schedule's fields as they can be said, once. Derived from here are the settings and the API's bodies, with their
# documentation, the command line's flags and the definitions of shipped schedules.
FIELDS: Mapping[str, Rule] = {
    "name": _text("Its name.", MAX_NAME, _check_name),
    "job_type": _text("The type of the jobs it makes.", MAX_NAME, _check_name),
    "cron": _text("When: five fields, six with seconds first, `@hourly` and the like, `@every 90s`.", MAX_CRON),
    "timezone": _text("The IANA time zone in which `cron` is meant.", MAX_TIMEZONE, default="UTC"),
    "payload": Rule(meaning="The jobs' payload.", check=_check_payload, schema={}, default={}),
    "enabled": Rule(meaning="Whether it fires.", check=_check_flag, schema={"type": "boolean"}, default=True),
    "max_attempts": _whole_number(
        "Attempts. Not given: the job type's, else `jobs.max_retries_default`.",
        MAX_ATTEMPTS,
        default=None,
        optional=True,
    ),
    "queue": _text("The jobs' queue.", MAX_NAME, _check_name, default="default"),
    "priority": _whole_number("The jobs' priority, 1 first.", max(PRIORITIES), default=2),
    "catchup": _choice("What becomes of fires that were missed.", Catchup.LATEST),
    "catchup_max": _whole_number('With `catchup = "all"`: the most jobs made at once.', MAX_CATCHUP, default=100),
    "catchup_window_s": _seconds('With `catchup = "all"`: no fire older than this.', 1, default=float(DAY_S)),
    "overlap": _choice("What happens when the previous job has not ended.", Overlap.ALLOW),
    "dst": _choice("What happens to a local time that a clock change doubles.", Dst.ONCE),
    "jitter_s": _seconds("Spread the fire over so many seconds.", 0, DAY_S, default=0.0),
    "timeout_s": _seconds("How long a run may take. Not given: the job type's.", 0.001, default=None, optional=True),
    "expect_success_within_s": _seconds(
        "Alert when the last success is older than this.", 1, default=None, optional=True
    ),
    "ping_url": _text(
        "Its own healthchecks-style URL, in place of `alerts.ping_url`.",
        MAX_PING_URL,
        _check_url,
        default=None,
        optional=True,
    ),
}
# What nobody may read.
SECRET = frozenset({"ping_url"})
# What a definition says of a schedule, beside its name and its payload.
DEFINED = tuple(name for name in FIELDS if name not in {"name", "payload"})
# What decides when a schedule fires: a change of it makes the past none of its business.
TIMING = frozenset({"cron", "timezone", "dst"})
