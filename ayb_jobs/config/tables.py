"""The settings that come in tables with names of their own: tokens, job types, schedules."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from ayb_jobs.config.section import DAY_S, Fault, Section, is_http, payload_faults, setting
from ayb_jobs.errors import InvalidInput
from ayb_jobs.model.bounds import Bounds
from ayb_jobs.model.limits import MOST, NewLimit

# How long a handler may take to notice that it was told to stop.
STOPPING_S = 5.0


class ApiToken(Section):
    """`[api.tokens.NAME]`: a token beside `admin_token`; the name is what the audit trail shows."""

    token: str = setting("", "The token itself.", secret=True)
    token_file: str = setting("", "A file that holds the token.")
    scope: Literal["read", "operate", "admin"] = setting(
        "read",
        "What it allows. `read`: look. `operate`: also enqueue, retry, cancel, trigger. `admin`: also change schedules.",
    )

    def contradictions(self) -> Iterator[Fault]:
        """Refuse a token that is none."""
        if not self.token:
            yield ("token",), "is missing; set `token` or `token_file`"


class JobTypeSettings(Section):
    """`[job_types.NAME]`: what a type of job does, and how it is run; without keys of a kind, a handler in Python."""

    description: str = setting("", "What it does, for people.")
    payload: dict[str, Any] = setting({}, "The payload's defaults; what a job brings goes over them.")
    payload_min: dict[str, float] = setting({}, "The least number that each of these keys of a payload may hold.")
    payload_max: dict[str, float] = setting({}, "The greatest number that each of these keys of a payload may hold.")
    timeout_s: float | None = setting(None, "How long a run may take. Not given: any time.", gt=0)
    isolation: Literal["process"] | None = setting(
        None, "`process`: run its handler in a child process. For handlers in Python that are no `async def` functions."
    )
    max_attempts: int | None = setting(None, "Attempts. Not given: `jobs.max_retries_default`.", ge=1, le=1_000_000)

    @property
    def bounds(self) -> Bounds:
        """Between which numbers the values of a payload may lie."""
        return Bounds(least=self.payload_min, greatest=self.payload_max)

    @property
    def stopping_s(self) -> float:
        """How long a run may take to end once it was told to stop; then its attempt ends without it."""
        return STOPPING_S

    def secrets(self) -> set[str]:
        """Return what is in these settings that nobody may read."""
        return set()

    def contradictions(self) -> Iterator[Fault]:
        """Refuse defaults that cannot be stored, or that no job may bring."""
        yield from payload_faults(self.payload)
        if self.isolation and type(self) is not JobTypeSettings:
            yield ("isolation",), "is for handlers in Python; leave it out"
        for key in self.payload_min.keys() & self.payload_max.keys():
            if self.payload_min[key] > self.payload_max[key]:
                yield ("payload_min", key), f"is greater than `payload_max.{key}`, so that no value would be right"
        try:
            self.bounds.check(self.payload)
        except InvalidInput as error:
            yield tuple(error.field.split(".", 1)), str(error).removeprefix(f"{error.field} ")


# The bounds of schedules are those of `model.schedule`; a test holds the two against each other.
MOST_S = 100 * 366 * DAY_S


class ScheduleSettings(Section):
    """`[schedules.NAME]`: jobs made by the clock."""

    job_type: str = Field(description="The type of the jobs it makes.", min_length=1, max_length=100)
    cron: str = Field(
        description="When: five fields, six with seconds first, `@hourly` and the like, `@every 90s`.",
        min_length=1,
        max_length=100,
    )
    timezone: str = setting("UTC", "The IANA time zone in which `cron` is meant.", min_length=1, max_length=50)
    payload: dict[str, Any] = setting({}, "The jobs' payload.")
    enabled: bool = setting(True, "Whether it fires.")
    max_attempts: int | None = setting(
        None, "Attempts. Not given: the job type's, else `jobs.max_retries_default`.", ge=1, le=1_000_000
    )
    queue: str = setting("default", "The jobs' queue.", min_length=1, max_length=100)
    priority: int = setting(2, "The jobs' priority, 1 first.", ge=1, le=4)
    catchup: Literal["latest", "all", "skip"] = setting("latest", "What becomes of fires that were missed.")
    catchup_max: int = setting(100, 'With `catchup = "all"`: the most jobs made at once.', ge=1, le=1000)
    catchup_window_s: float = setting(float(DAY_S), 'With `catchup = "all"`: no fire older than this.', ge=1, le=MOST_S)
    overlap: Literal["allow", "skip", "queue_one", "cancel_running"] = setting(
        "allow", "What happens when the previous job has not ended."
    )
    dst: Literal["once", "skip", "both"] = setting("once", "What happens to a local time that a clock change doubles.")
    jitter_s: float = setting(0.0, "Spread the fire over so many seconds.", ge=0, le=DAY_S)
    timeout_s: float | None = setting(None, "How long a run may take. Not given: the job type's.", ge=0.001, le=MOST_S)
    expect_success_within_s: float | None = setting(
        None, "Alert when the last success is older than this.", ge=1, le=MOST_S
    )
    ping_url: str | None = setting(None, "Its own healthchecks-style URL, in place of `alerts.ping_url`.", secret=True)

    def contradictions(self) -> Iterator[Fault]:
        """Refuse what would never fire, or could not be stored."""
        yield from self._faults_of_time()
        if self.ping_url and not is_http(self.ping_url):
            yield ("ping_url",), "is not an http:// or https:// URL"
        yield from payload_faults(self.payload)

    def _faults_of_time(self) -> Iterator[Fault]:
        # The parser of cron expressions is slow to import, and most configurations have no schedule.
        from ayb_jobs.model.schedules.cron import check_cron  # noqa: PLC0415 - not needed without schedules
        from ayb_jobs.model.schedules.zones import find_zone  # noqa: PLC0415 - not needed without schedules

        zone = self.timezone
        try:
            find_zone(zone)
        except InvalidInput as error:
            yield ("timezone",), f"cannot be used: {error}"
            zone = "UTC"
        try:
            check_cron(self.cron, zone)
        except InvalidInput as error:
            yield ("cron",), f"cannot be used: {error}"


class LimitSettings(Section):
    """`[limits.NAME]`: how many jobs of some types run at once and start in some time, over all daemons."""

    types: list[str] = Field(description="The job types that it limits.", min_length=1)
    key_field: str | None = setting(
        None,
        "The field of the payload whose value is a job's key, if its enqueuer gives none.",
        min_length=1,
        max_length=100,
    )
    max_running: int | None = setting(None, "How many of its jobs run at once.", ge=0, le=MOST)
    key_max_running: int | None = setting(None, "How many of one key run at once.", ge=0, le=MOST)
    rate: str | None = setting(None, "How many start in a time: `5/s`, `100/min`, `1000/h`, `1/15min`.")
    burst: int = setting(1, "How many of them may start at once.", ge=1, le=MOST)
    key_rate: str | None = setting(None, "How many of one key start in a time.")
    key_burst: int = setting(1, "How many of one key may start at once.", ge=1, le=MOST)

    def as_limit(self, name: str) -> NewLimit:
        """Return the limit that is meant; raises `InvalidInput`."""
        return NewLimit(name=name, **{field: getattr(self, field) for field in type(self).model_fields})

    def contradictions(self) -> Iterator[Fault]:
        """Refuse what limits nothing."""
        try:
            self.as_limit("any")
        except InvalidInput as error:
            yield (error.field or "types",), f"cannot be used: {error}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """Job types and schedules that belong together, by name."""

    job_types: Mapping[str, JobTypeSettings]
    schedules: Mapping[str, ScheduleSettings]
