"""Celery beat's periodic tasks as schedules, whether they come from its tables or from a settings file."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ayb_jobs.errors import InvalidInput
from ayb_jobs.model.schedules.cron_fields import DAYS_IN_WEEK, lists_every_day, numbers_of_days
from ayb_jobs.model.schedules.importing.imported import Imported, Names, imported, not_imported

_CRONTAB_FIELDS = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
_PERIODS = {"days": 86400, "hours": 3600, "minutes": 60, "seconds": 1, "milliseconds": 1e-3, "microseconds": 1e-6}
_OWN_CLEANUP = "celery.backend_cleanup"
_WHOLE = 1e-9
_LONGEST_TOLD = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class BeatEntry:
    """One periodic task: a crontab (by Celery's field names), or an interval in seconds.

    `problem` says why it cannot be imported, if it cannot. `options` are those of `apply_async`. `notes` tell what
    could not be read of it.
    """

    name: str
    task: str
    problem: str | None = None
    crontab: Mapping[str, str] | None = None
    every_s: float | None = None
    timezone: str | None = None
    args: Any = ()
    kwargs: Any = None
    options: Any = field(default_factory=dict)
    enabled: bool = True
    notes: tuple[str, ...] = ()


class _CannotBeHad(Exception):
    """A periodic task means something that a schedule of ours cannot say."""


def read_beat(entries: Iterable[BeatEntry], *, timezone: str | None = None) -> Iterator[Imported]:
    """Yield periodic tasks as schedules; `timezone` is Celery's, for entries that name none (UTC if not given)."""
    names = Names()
    seen: set[str] = set()
    for entry in entries:
        source = f"Celery beat: {entry.name} runs {entry.task}"
        notes = list(entry.notes)
        if entry.name in seen:
            notes.append("another task before it has the same name: keep the one that is meant")
        seen.add(entry.name)
        try:
            values = _values(entry, notes, timezone)
        except _CannotBeHad as reason:
            yield not_imported(source, str(reason), notes)
        else:
            yield imported(source, {"name": names.unique(entry.name), **values}, notes)


def _values(entry: BeatEntry, notes: list[str], timezone: str | None) -> dict[str, Any]:
    if entry.problem is not None:
        raise _CannotBeHad(entry.problem)
    if entry.task == _OWN_CLEANUP:
        raise _CannotBeHad("it is Celery's own cleanup of its results")
    cron = _cron(entry)
    zone = entry.timezone or timezone
    if zone is None:
        notes.append("no time zone is named: UTC is taken, Celery's own default")
    return {
        "job_type": entry.task,
        "cron": cron,
        "timezone": zone or "UTC",
        "payload": _payload(entry, notes),
        "enabled": entry.enabled,
        **_options(entry.options, notes),
    }


# When


def _cron(entry: BeatEntry) -> str:
    if entry.crontab is not None:
        fields = {name: _cron_field(str(entry.crontab.get(name, "*"))) for name in _CRONTAB_FIELDS}
        day, weekday = _both_days(fields["day_of_month"], fields["day_of_week"])
        return f"{fields['minute']} {fields['hour']} {day} {fields['month_of_year']} {weekday}"
    if entry.every_s is None:
        raise _CannotBeHad("its schedule is not a crontab or interval in plain, named values")
    if not math.isfinite(entry.every_s) or entry.every_s < 1 or abs(entry.every_s - round(entry.every_s)) > _WHOLE:
        raise _CannotBeHad(f"it runs every {entry.every_s:g} s; here an interval is a whole number of seconds")
    return f"@every {round(entry.every_s)}s"


def _cron_field(text: str) -> str:
    """Return a field with the names of days and months as short as cron knows them; Celery looks at three letters."""
    return re.sub(r"([A-Za-z]{3})[A-Za-z]*", r"\1", text.replace(" ", ""))


def _both_days(day: str, weekday: str) -> tuple[str, str]:
    """Return the two fields of days so that both have to match, as they do in Celery; here either is enough.

    A star at the beginning says so. So does `mon#2` for the days 8 to 14 that are Mondays.
    """
    try:
        if lists_every_day(day, weekday=False):
            return "*", weekday
        if lists_every_day(weekday, weekday=True):
            return day, "*"
        if day.startswith("*") or weekday.startswith("*"):
            return day, weekday
        days, weekdays = numbers_of_days(day, weekday=False), numbers_of_days(weekday, weekday=True)
    except InvalidInput:
        return day, weekday  # it is refused as what it is
    weeks = {(number - 1) // DAYS_IN_WEEK + 1 for number in days}
    if days == {number for number in range(1, 32) if (number - 1) // DAYS_IN_WEEK + 1 in weeks}:
        return "*", ",".join(f"{each}#{week}" for week in sorted(weeks) for each in sorted(weekdays))
    raise _CannotBeHad("day of month and day of week: there both must match; here either is enough")


def interval_s(every: float, period: str) -> float | None:
    """Return django-celery-beat's interval in seconds."""
    return every * _PERIODS[period] if period in _PERIODS else None


# What


def _payload(entry: BeatEntry, notes: list[str]) -> dict[str, Any]:
    kwargs = {} if entry.kwargs is None else entry.kwargs
    if not isinstance(kwargs, Mapping) or not all(isinstance(key, str) for key in kwargs):
        raise _CannotBeHad("its keyword arguments are not a dictionary with texts as keys")
    if not isinstance(entry.args, list | tuple):
        raise _CannotBeHad("its arguments are not a list")
    payload = dict(kwargs)
    if entry.args:
        if "args" in payload:
            raise _CannotBeHad(
                "it has positional arguments and one called args, and both would be the payload's key args"
            )
        notes.append("positional arguments are in the payload's key args")
        payload["args"] = list(entry.args)
    return payload


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _LONGEST_TOLD else f"{text[:_LONGEST_TOLD]}…"


def _options(options: Any, notes: list[str]) -> dict[str, Any]:
    """Return what the options of a task are here, and name what is left out."""
    if not isinstance(options, Mapping):
        raise _CannotBeHad("its options are not a dictionary")
    values: dict[str, Any] = {}
    for name, value in options.items():
        if value is None or value in ("", {}):
            continue  # which there is the same as nothing
        match name:
            case "queue" if isinstance(value, str):
                values["queue"] = value
            case "queue":
                raise _CannotBeHad("its queue is not text")
            case "time_limit" if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
                values["timeout_s"] = float(value)
            case "expires" | "expire_seconds":
                notes.append(
                    f"its {name} ({_brief(value)}) is left out: there a task that waits longer is dropped; here it runs late"
                )
            case "priority":
                notes.append(
                    f"its priority ({_brief(value)}) is left out: there it goes by the broker; here 1 is first and 4 last"
                )
            case _:
                notes.append(f"its {name} ({_brief(value)}) is left out")
    return values
