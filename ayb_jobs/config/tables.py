"""The settings that come in tables with names of their own: tokens, job types, schedules."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field, create_model

from ayb_jobs.config.schemas import bounds_of, kind_of
from ayb_jobs.config.section import Doubt, Fault, Section, payload_faults, setting
from ayb_jobs.errors import InvalidInput
from ayb_jobs.frozen import frozen
from ayb_jobs.model.bounds import Bounds
from ayb_jobs.model.limits import MOST, NewLimit
from ayb_jobs.model.schedules.fields import FIELDS, SECRET, check_value

# How long a handler may take to notice that it was told to stop.
STOPPING_S = 5.0


class ApiToken(Section):
    """`[api.tokens.NAME]`: a token beside `admin_token`; the name is what the audit trail shows."""

    token: str = setting("", "The token itself.", secret=True)
    token_file: str = setting("", "A file that holds the token.")
    scope: Literal["read", "operate", "admin"] = setting(
        "read",
        "What it allows. `read`: look. `operate`: also act on jobs, batches, pauses and limits. `admin`: also change"
        " schedules and drain daemons.",
    )

    def contradictions(self) -> Iterator[Fault]:
        """Refuse a token that is none."""
        if not self.token:
            yield ("token",), "is missing; set `token` or `token_file`"


class JobTypeSettings(Section):
    """`[job_types.NAME]`: what a type of job does, and how it is run; without keys of a kind, a handler in Python."""

    description: str = setting("", "What it does, for people.")
    payload: dict[str, Any] = setting({}, "The payload's defaults; the job's own payload overrides them.")
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

    def doubts(self) -> Iterator[Doubt]:
        """Tell of what no job of this type can do on this machine as it is."""
        yield from ()


class ScheduleTable(Section):
    """What is read of `[schedules.NAME]` by name, and the checks of all its fields."""

    job_type: str
    cron: str
    timezone: str
    payload: dict[str, Any]

    def secrets(self) -> set[str]:
        """Return what is in these settings that nobody may read."""
        return {value for name in SECRET if (value := getattr(self, name))}

    def contradictions(self) -> Iterator[Fault]:
        """Refuse what would never fire, or could not be stored."""
        yield from self._faults_of_time()
        for name in type(self).model_fields:
            try:
                check_value(name, getattr(self, name))
            except InvalidInput as error:
                yield (name,), f"cannot be used: {error}"

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


def schedule_setting(name: str) -> tuple[Any, Any]:
    """Return a schedule's field as pydantic checks it, with the type, the bounds and the default of the model."""
    rule = FIELDS[name]
    kind = dict[str, Any] if name == "payload" else kind_of(rule.schema)
    declared = setting(rule.default, rule.meaning, secret=name in SECRET, **bounds_of(rule.schema))
    return (kind | None if rule.optional else kind), declared


_DECLARED: dict[str, Any] = {name: schedule_setting(name) for name in FIELDS if name != "name"}
ScheduleSettings = create_model(
    "ScheduleSettings",
    __base__=ScheduleTable,
    __doc__="`[schedules.NAME]`: jobs made by the clock.",
    **_DECLARED,
)


class QueueSettings(Section):
    """`[queues.NAME]`: how much of this daemon a queue may fill; other daemons have settings of their own."""

    concurrency: int = Field(
        description="How many jobs of this queue this daemon runs at once, whatever runs them.", ge=1, le=100_000
    )


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


@frozen
class Pack:
    """Job types and schedules that belong together, by name."""

    job_types: Mapping[str, JobTypeSettings]
    schedules: Mapping[str, ScheduleTable]
