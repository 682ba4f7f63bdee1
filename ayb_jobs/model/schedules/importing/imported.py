"""What an import makes of one entry, and how it is written down as settings."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ayb_jobs.errors import InvalidInput
from ayb_jobs.model.job import MAX_NAME
from ayb_jobs.model.schedules.schedule import NewSchedule

_RESTRICTED_DAYS = "fires on the days of the month and also on the weekdays"


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """One entry of another scheduler.

    `schedule` is None where it cannot be had here, for the reason in `notes`. `statements` is the SQL that it ran, to
    become a job type.
    """

    source: str
    schedule: NewSchedule | None
    notes: tuple[str, ...] = ()
    statements: tuple[str, ...] = ()


@dataclass(slots=True)
class Names:
    """Gives each schedule a name that none before it has."""

    taken: set[str] = field(default_factory=set)

    def unique(self, wish: str) -> str:
        """Return a name made of `wish`: its letters, digits, dots, dashes and underscores."""
        plain = re.sub(r"[^\w.-]+", "_", wish, flags=re.ASCII).strip("_.-")[: MAX_NAME - 5] or "imported"
        name, number = plain, 1
        while name in self.taken:
            number += 1
            name = f"{plain}_{number}"
        self.taken.add(name)
        return name


def imported(source: str, values: Mapping[str, Any], notes: Iterable[str], statements: Iterable[str] = ()) -> Imported:
    """Return an entry as a schedule, or without one and with the reason where its values cannot be used."""
    try:
        schedule = NewSchedule(**values)
    except InvalidInput as error:
        return Imported(source=source, schedule=None, notes=(*notes, f"not imported: {error}"))
    return Imported(source=source, schedule=schedule, notes=tuple(notes), statements=tuple(statements))


def as_toml(entries: Iterable[Imported]) -> str:
    """Return schedules as settings: `[schedules.NAME]`, and `[job_types.NAME]` where they ran SQL."""
    return "\n".join(line for entry in entries for line in _toml_lines(entry))


def _toml_lines(entry: Imported) -> Iterator[str]:
    for line in (entry.source, *entry.notes):
        yield f"# {''.join(each if each.isprintable() else ' ' for each in line)}"  # TOML refuses control characters
    schedule = entry.schedule
    if schedule is None:
        yield ""
        return
    if entry.statements:
        yield f"[job_types.{_text(schedule.job_type)}]"
        yield f"statements = [{', '.join(map(_text, entry.statements))}]"
        yield ""
    yield f"[schedules.{_text(schedule.name)}]"
    yield f"job_type = {_text(schedule.job_type)}"
    yield f"cron = {_text(schedule.cron)}"
    if schedule.timezone != "UTC":
        yield f"timezone = {_text(schedule.timezone)}"
    if schedule.payload:
        yield f"payload = {_value(schedule.payload)}"
    if not schedule.enabled:
        yield "enabled = false"
    if schedule.queue != "default":
        yield f"queue = {_text(schedule.queue)}"
    yield ""


def _text(value: str) -> str:
    """Return a TOML basic string, whose escapes are those of JSON."""
    return json.dumps(value).replace("\x7f", "\\u007f")


def _value(value: Any) -> str:
    match value:
        case dict():
            pairs = (f"{_text(str(key))} = {_value(part)}" for key, part in value.items() if part is not None)
            return f"{{ {', '.join(pairs)} }}"
        case list() | tuple():
            return f"[{', '.join(_value(part) for part in value if part is not None)}]"
        case str():
            return _text(value)
        case _:
            return json.dumps(value)
