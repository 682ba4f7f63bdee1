"""`beat_schedule` in Celery's settings: Python source that is read from top to bottom and never run."""

import ast
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ayb_jobs.errors import InvalidInput
from ayb_jobs.model.schedules.importing.celery_assignments import UNREADABLE, is_schedule
from ayb_jobs.model.schedules.importing.celery_beat import BeatEntry
from ayb_jobs.model.schedules.importing.celery_source import Reader
from ayb_jobs.model.schedules.importing.python_statements import in_one_form
from ayb_jobs.model.schedules.importing.python_values import (
    CRONTAB_FIELDS,
    Crontab,
    Every,
    Unknown,
    is_bounded,
    is_number,
    unknown_parts,
)

_TASK_FIELDS = frozenset({"task", "schedule", "args", "kwargs", "options", "relative"})


def beat_settings(text: str, *, timezone: str | None = None) -> Iterator[BeatEntry]:
    """Yield the entries of `beat_schedule` (or its Django names, or one in a dictionary of settings).

    They are in `timezone`, or in the zone that the settings name. An entry that is not a plain value, or that is set
    only under a condition, is yielded with the reason why it cannot be imported. Raises `InvalidInput` if there is no
    such setting.
    """
    reader = Reader()
    try:
        reader.read(in_one_form(ast.parse(text.removeprefix("\ufeff"))).body)
    except (SyntaxError, ValueError) as error:
        raise InvalidInput(f"the settings are not valid Python: {error}", field="file") from None
    except (RecursionError, MemoryError):
        raise InvalidInput("the settings are nested too deeply", field="file") from None
    schedules = list(_schedules(reader.settings.scope.values))
    if not schedules and not reader.settings.lost:
        raise InvalidInput("the settings have no beat_schedule", field="file")
    for name, found, around in schedules:
        zone = timezone or _zone(reader.settings.scope.values, name, around)
        for key, value in found.items():
            yield _entry(str(key), value, zone, reader.settings.notes)
    yield from reader.settings.lost


def _schedules(values: Mapping[str, Any]) -> Iterator[tuple[str, dict[Any, Any], Mapping[str, Any]]]:
    """Yield each schedule once: its name, its entries, and the dictionary of settings in which it stands."""
    seen: set[int] = set()
    waiting: list[Mapping[str, Any]] = [values]
    while waiting:
        around = waiting.pop()
        # A schedule may have another name as well, which says less.
        for name in sorted(around, key=lambda name: not is_schedule(str(name))):
            value = around[name]
            if not isinstance(value, dict) or id(value) in seen:
                continue
            seen.add(id(value))
            if is_schedule(str(name)):
                yield str(name), value, around
            else:
                waiting.append(value)


def _zone(values: Mapping[str, Any], name: str, around: Mapping[str, Any]) -> Any:
    """Return the zone of a schedule: by the setting beside it, by Celery's, or by Django's; None if none is named."""
    prefix = name[: len(name) - len("beat_schedule")]
    beside = [
        around[key] for key in (f"{prefix}timezone", f"{prefix}TIMEZONE", "timezone", "TIMEZONE") if key in around
    ]
    celery = [value for key, value in values.items() if key.rpartition(".")[2] in ("timezone", "CELERY_TIMEZONE")]
    django = [value for key, value in values.items() if key.rpartition(".")[2] == "TIME_ZONE"]
    if named := _not_none(beside)[:1] or _not_none(celery) or _not_none(django):
        if any(zone != named[0] for zone in named):
            return Unknown("the settings name several")
        [zone, *_] = named
        return zone if isinstance(zone, str | Unknown) else Unknown(f"its time zone {zone!r} is not text")
    local = [value for key, value in values.items() if key.rpartition(".")[2].lower().endswith("enable_utc")]
    if local and local[-1] is not True:
        return Unknown("enable_utc is off, so that it is in its machine's zone")
    return None


def _not_none(zones: list[Any]) -> list[Any]:
    return [zone for zone in zones if zone is not None]


def _entry(name: str, value: Any, zone: Any, notes: Iterable[str]) -> BeatEntry:
    if not isinstance(value, dict):
        why = value.why if isinstance(value, Unknown) else "it is not a dictionary"
        return BeatEntry(name=name, task=UNREADABLE, problem=why)
    if not is_bounded(value):  # by what was put into it later
        return BeatEntry(name=name, task=UNREADABLE, problem="it is too large, or holds itself")
    task = value.get("task", name)
    return BeatEntry(
        name=name,
        task=task if isinstance(task, str) else UNREADABLE,
        problem=_problem(value, zone),
        crontab=_crontab(value.get("schedule")),
        every_s=_every(value.get("schedule")),
        timezone=zone if isinstance(zone, str) else None,
        args=value.get("args") or (),
        kwargs=value.get("kwargs"),
        options=value.get("options") or {},
        notes=(*_notes(value), *notes),
    )


def _problem(value: Mapping[Any, Any], zone: Any) -> str | None:
    for key in ("task", "schedule", "args", "kwargs"):
        for part in unknown_parts(value.get(key), timings=key == "schedule"):
            return f"its {key}: {part.why}"
    options = value.get("options")
    unread = unknown_parts(options.get("queue")) if isinstance(options, dict) else unknown_parts(options)
    if unread:
        return f"its options: {unread[0].why}"
    if extra := [str(key) for key in value if str(key).startswith("**")]:
        return f"`{extra[0]}` is not a plain value"
    if isinstance(value.get("schedule"), Crontab) and isinstance(zone, Unknown):
        return f"its time zone: {zone.why}; name it with --timezone"
    return None


def _notes(value: Mapping[Any, Any]) -> Iterator[str]:
    schedule = value.get("schedule")
    if isinstance(schedule, Every):
        yield from schedule.notes
    if value.get("relative"):
        yield "relative: there it fires at whole multiples of its interval; here it counts from its first fire"
    for key in value.keys() - _TASK_FIELDS:
        yield f"its {key} is left out"


def _crontab(schedule: Any) -> dict[str, str] | None:
    if not isinstance(schedule, Crontab):
        return None
    return {name: _field(schedule.fields[name]) for name in CRONTAB_FIELDS if name in schedule.fields}


def _field(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple | frozenset) else str(value)


def _every(schedule: Any) -> float | None:
    if isinstance(schedule, Every):
        return schedule.seconds
    return float(schedule) if is_number(schedule) else None
