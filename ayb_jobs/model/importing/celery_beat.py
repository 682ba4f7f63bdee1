"""Celery beat: the rows of django-celery-beat's tables, and `beat_schedule` in a settings file."""

import ast
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ayb_jobs.errors import InvalidInput
from ayb_jobs.model.importing.imported import Imported, Names, imported

_CRONTAB_FIELDS = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
# Celery's crontab() takes these by position; the order of the rest differs between its versions.
_BY_POSITION = ("minute", "hour")
_PERIODS = {"days": 86400, "hours": 3600, "minutes": 60, "seconds": 1}
_SETTINGS = ("beat_schedule", "CELERY_BEAT_SCHEDULE", "CELERYBEAT_SCHEDULE")


@dataclass(frozen=True, slots=True, kw_only=True)
class BeatEntry:
    """One periodic task: a crontab (by Celery's field names), or an interval in seconds, or neither (solar, clocked)."""

    name: str
    task: str
    crontab: Mapping[str, str] | None = None
    every_s: float | None = None
    timezone: str | None = None
    args: Any = ()
    kwargs: Any = None
    queue: str | None = None
    enabled: bool = True


def read_beat(entries: Iterable[BeatEntry], *, timezone: str | None = None) -> Iterator[Imported]:
    """Yield periodic tasks as schedules; `timezone` is Celery's, for entries that name none (UTC where not given)."""
    names = Names()
    for entry in entries:
        yield _entry(entry, names.unique(entry.name), timezone)


def _entry(entry: BeatEntry, name: str, timezone: str | None) -> Imported:
    source = f"Celery beat: {entry.name} runs {entry.task}"
    notes: list[str] = []
    if entry.crontab is not None:
        cron = " ".join(str(entry.crontab.get(field, "*")).replace(" ", "") for field in _CRONTAB_FIELDS)
        if entry.crontab.get("day_of_month", "*") != "*" and entry.crontab.get("day_of_week", "*") != "*":
            notes.append("day of month and day of week: there both must match; here either is enough")
    elif entry.every_s is not None and entry.every_s >= 1:
        cron = f"@every {round(entry.every_s)}s"
        if entry.every_s != round(entry.every_s):
            notes.append(f"every {entry.every_s:g} s is rounded to whole seconds")
    else:
        reason = "not imported: its schedule is no crontab or interval (of a second at least) in plain, named values"
        return Imported(source=source, schedule=None, notes=(reason,))
    zone = entry.timezone or timezone
    if zone is None:
        notes.append("no time zone is named: UTC is taken, Celery's own default")
    values = {
        "name": name,
        "job_type": entry.task,
        "cron": cron,
        "timezone": zone or "UTC",
        "payload": _payload(entry, notes),
        "enabled": entry.enabled,
        "queue": entry.queue or "default",
    }
    return imported(source, values, notes)


def _payload(entry: BeatEntry, notes: list[str]) -> dict[str, Any]:
    payload = dict(entry.kwargs or {})
    if entry.args:
        notes.append("positional arguments are in the payload's key args")
        payload["args"] = list(entry.args)
    return payload


def interval_s(every: float, period: str) -> float | None:
    """Return django-celery-beat's interval in seconds; None for one below a second."""
    return every * _PERIODS[period] if period in _PERIODS else None


def beat_settings(text: str) -> Iterator[BeatEntry]:
    """Yield the entries of `beat_schedule` (or its Django names) in a Python settings file, which is read, never run.

    Raises `InvalidInput` where there is none, or where it is no plain dictionary.
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InvalidInput(f"the settings are no Python: {error}", field="file") from None
    found = next(filter(None, map(_beat_schedule, ast.walk(tree))), None)
    if found is None:
        raise InvalidInput(f"the settings have no {_SETTINGS[0]} that is a plain dictionary", field="file")
    for key, value in zip(found.keys, found.values, strict=True):
        if isinstance(key, ast.Constant) and isinstance(value, ast.Dict):
            yield _settings_entry(str(key.value), value)


def _beat_schedule(node: ast.AST) -> ast.Dict | None:
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
        for target in node.targets:
            name = target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")
            if name in _SETTINGS:
                return node.value
    return None


def _settings_entry(name: str, node: ast.Dict) -> BeatEntry:
    parts = {
        key.value: value for key, value in zip(node.keys, node.values, strict=True) if isinstance(key, ast.Constant)
    }
    schedule = parts.get("schedule")
    options = _literal(parts.get("options")) or {}
    return BeatEntry(
        name=name,
        task=str(_literal(parts.get("task")) or name),
        crontab=_crontab_call(schedule),
        every_s=_interval(schedule),
        args=_literal(parts.get("args")) or (),
        kwargs=_literal(parts.get("kwargs")),
        queue=options.get("queue") if isinstance(options, dict) else None,
    )


def _crontab_call(node: ast.AST | None) -> dict[str, str] | None:
    if _called(node) != "crontab" or not isinstance(node, ast.Call) or len(node.args) > len(_BY_POSITION):
        return None
    given = dict(zip(_BY_POSITION, map(_field, node.args), strict=False))
    return given | {each.arg: _field(each.value) for each in node.keywords if each.arg in _CRONTAB_FIELDS}


def _field(node: ast.AST) -> str:
    value = _literal(node)
    return ",".join(map(str, value)) if isinstance(value, list | tuple | set) else str(value)


def _interval(node: ast.AST | None) -> float | None:
    if _called(node) in ("timedelta", "schedule") and isinstance(node, ast.Call):
        units = {"weeks": 7 * 86400, **_PERIODS, "run_every": 1}
        named = sum(units.get(each.arg or "", 0) * _number(each.value) for each in node.keywords)
        positional = sum(size * _number(each) for size, each in zip((86400, 1), node.args, strict=False))
        return named + positional
    value = _literal(node)
    return float(value) if isinstance(value, int | float) else None


def _called(node: ast.AST | None) -> str:
    if not isinstance(node, ast.Call):
        return ""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _number(node: ast.AST) -> float:
    value = _literal(node)
    return float(value) if isinstance(value, int | float) else 0.0


def _literal(node: ast.AST | None) -> Any:
    if node is None:
        return None
    try:
        value = ast.literal_eval(node)
        json.dumps(value, default=list)
    except (ValueError, TypeError, RecursionError):
        return None
    return value
