"""What a schedule is: as asked for (`NewSchedule`), and as an operator sees it (`Schedule`)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from ayb_jobs.frozen import frozen
from ayb_jobs.model.payload import encode_payload
from ayb_jobs.model.schedules.cron import check_cron
from ayb_jobs.model.schedules.fields import DEFINED, FIELDS, check_value

# `broken` cannot be read or never fires; `dormant` fires next in more than five years; `ended` has no fire left.
SCHEDULE_STATES = ("enabled", "disabled", "broken", "dormant", "ended")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSchedule:
    """A schedule to be created. Raises `InvalidInput`, naming the field, where a value cannot be used.

    `max_attempts` None leaves the number to whoever creates it. `catchup_max` and `catchup_window_s` bound
    `catchup = "all"`: so many of the latest missed fires, and none older than that.
    """

    name: str
    job_type: str
    cron: str
    timezone: str = FIELDS["timezone"].default
    payload: Any = field(default_factory=dict)
    enabled: bool = FIELDS["enabled"].default
    max_attempts: int | None = FIELDS["max_attempts"].default
    queue: str = FIELDS["queue"].default
    priority: int = FIELDS["priority"].default
    catchup: str = FIELDS["catchup"].default
    catchup_max: int = FIELDS["catchup_max"].default
    catchup_window_s: float = FIELDS["catchup_window_s"].default
    overlap: str = FIELDS["overlap"].default
    dst: str = FIELDS["dst"].default
    jitter_s: float = FIELDS["jitter_s"].default
    timeout_s: float | None = FIELDS["timeout_s"].default
    expect_success_within_s: float | None = FIELDS["expect_success_within_s"].default
    ping_url: str | None = FIELDS["ping_url"].default

    def __post_init__(self) -> None:
        check_values({name: getattr(self, name) for name in FIELDS})

    @property
    def payload_text(self) -> str:
        """The payload as JSON; raises `InvalidInput` where it is none."""
        return encode_payload(self.payload)


@frozen
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


def check_values(values: Mapping[str, Any]) -> None:
    """Raise `InvalidInput` for the first value that a schedule cannot have; `values` may be any part of its fields."""
    for name, value in values.items():
        check_value(name, value)
    if "cron" in values or "timezone" in values:
        check_cron(values.get("cron", "@daily"), values.get("timezone", "UTC"))


def defined_values(schedule: NewSchedule | Schedule) -> dict[str, Any]:
    """Return what is defined of a schedule, by field, without its name and its payload."""
    values = {name: getattr(schedule, name) for name in DEFINED}
    return {name: str(value) if isinstance(value, StrEnum) else value for name, value in values.items()}
