"""Celery beat: the rows of django-celery-beat's tables, and `beat_schedule` in a settings file."""

import ast
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ayb_jobs.errors import InvalidInput
from ayb_jobs.model.schedules.importing.imported import Imported, Names, imported

_CRONTAB_FIELDS = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
# Celery's crontab() takes these by position; the order of the rest differs between its versions.
_BY_POSITION = ("minute", "hour")
_PERIODS = {"days": 86400, "hours": 3600, "minutes": 60, "seconds": 1}
# What `timedelta()` takes, in its order.
_TIMEDELTA = {
    "days": 86400, "seconds": 1, "microseconds": 1e-6, "milliseconds": 1e-3, "minutes": 60, "hours": 3600, "weeks": 604800,
}  # fmt: skip
_SETTINGS = ("beat_schedule", "CELERY_BEAT_SCHEDULE", "CELERYBEAT_SCHEDULE")
_TIMEZONES = ("timezone", "CELERY_TIMEZONE")


@dataclass(frozen=True, slots=True, kw_only=True)
class BeatEntry:
    """One periodic task: a crontab (by Celery's field names), or an interval in seconds, or neither (solar, clocked).

    `notes` tell what could not be read of it.
    """

    name: str
    task: str
    crontab: Mapping[str, str] | None = None
    every_s: float | None = None
    timezone: str | None = None
    args: Any = ()
    kwargs: Any = None
    queue: str | None = None
    enabled: bool = True
    once: bool = False
    notes: tuple[str, ...] = ()


def read_beat(entries: Iterable[BeatEntry], *, timezone: str | None = None) -> Iterator[Imported]:
    """Yield periodic tasks as schedules; `timezone` is Celery's, for entries that name none (UTC where not given)."""
    names = Names()
    for entry in entries:
        yield _entry(entry, names.unique(entry.name), timezone)


def _entry(entry: BeatEntry, name: str, timezone: str | None) -> Imported:
    source = f"Celery beat: {entry.name} runs {entry.task}"
    notes = list(entry.notes)
    if entry.once:
        return Imported(source=source, schedule=None, notes=("not imported: it is to run only once",))
    if entry.crontab is not None:
        cron = " ".join(_cron_field(str(entry.crontab.get(field, "*"))) for field in _CRONTAB_FIELDS)
        if entry.crontab.get("day_of_month", "*") != "*" and entry.crontab.get("day_of_week", "*") != "*":
            notes.append("day of month and day of week: there both must match; here either is enough")
    elif entry.every_s is not None and entry.every_s >= 1 and math.isfinite(entry.every_s):
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


def _cron_field(text: str) -> str:
    """Return a field with the names of days and months as short as cron knows them; Celery looks at three letters."""
    return re.sub(r"([A-Za-z]{3})[A-Za-z]*", r"\1", text.replace(" ", ""))


def _payload(entry: BeatEntry, notes: list[str]) -> dict[str, Any]:
    payload = dict(entry.kwargs) if isinstance(entry.kwargs, Mapping) else {}
    if entry.kwargs and not payload:
        notes.append("its keyword arguments are no dictionary, and are left out")
    if entry.args:
        notes.append("positional arguments are in the payload's key args")
        payload["args"] = list(entry.args)
    return payload


def interval_s(every: float, period: str) -> float | None:
    """Return django-celery-beat's interval in seconds; None for one below a second."""
    return every * _PERIODS[period] if period in _PERIODS else None


def beat_settings(text: str, *, timezone: str | None = None) -> Iterator[BeatEntry]:
    """Yield the entries of `beat_schedule` (or its Django names) in a Python settings file, which is read, never run.

    They are in `timezone`, or in the zone that the settings name. An entry that is no plain value is yielded without a
    schedule, so that it is not overlooked. Raises `InvalidInput` where there is none, or where it is no plain dictionary.
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InvalidInput(f"the settings are no Python: {error}", field="file") from None
    found = next(filter(None, map(_beat_schedule, ast.walk(tree))), None)
    if found is None:
        raise InvalidInput(f"the settings have no {_SETTINGS[0]} that is a plain dictionary", field="file")
    zone = timezone or next(filter(None, map(_timezone, ast.walk(tree))), None)
    for key, value in zip(found.keys, found.values, strict=True):
        if isinstance(key, ast.Constant) and isinstance(value, ast.Dict):
            yield _settings_entry(str(key.value), value, zone)
        else:
            name = f"**{ast.unparse(value)}" if key is None else str(getattr(key, "value", None) or ast.unparse(key))
            yield BeatEntry(name=name, task="what cannot be read")


def _beat_schedule(node: ast.AST) -> ast.Dict | None:
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
        return node.value if _assigns(node, _SETTINGS) else None
    return None


def _timezone(node: ast.AST) -> str | None:
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and _assigns(node, _TIMEZONES):
        return str(node.value.value)
    return None


def _assigns(node: ast.Assign, names: Iterable[str]) -> bool:
    return any(
        (target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")) in names
        for target in node.targets
    )


def _settings_entry(name: str, node: ast.Dict, zone: str | None) -> BeatEntry:
    parts = {
        key.value: value for key, value in zip(node.keys, node.values, strict=True) if isinstance(key, ast.Constant)
    }
    schedule = parts.get("schedule")
    unread = [key for key in ("task", "args", "kwargs", "options") if key in parts and _literal(parts[key]) is None]
    options = _literal(parts.get("options")) or {}
    return BeatEntry(
        name=name,
        task=str(_literal(parts.get("task")) or name),
        crontab=_crontab_call(schedule),
        every_s=_interval(schedule),
        timezone=zone,
        args=_literal(parts.get("args")) or (),
        kwargs=_literal(parts.get("kwargs")),
        queue=options.get("queue") if isinstance(options, dict) else None,
        notes=tuple(f"its {key} is no plain value, and is left out" for key in unread),
    )


def _crontab_call(node: ast.AST | None) -> dict[str, str] | None:
    if _called(node) != "crontab" or not isinstance(node, ast.Call) or len(node.args) > len(_BY_POSITION):
        return None
    if any(each.arg is None for each in node.keywords):
        return None
    given = dict(zip(_BY_POSITION, map(_field, node.args), strict=False))
    return given | {each.arg: _field(each.value) for each in node.keywords if each.arg in _CRONTAB_FIELDS}


def _field(node: ast.AST) -> str:
    value = _literal(node)
    return ",".join(map(str, value)) if isinstance(value, list | tuple | set) else str(value)


def _interval(node: ast.AST | None) -> float | None:
    match node:
        case ast.Call() if _called(node) == "timedelta":
            named = [*zip(_TIMEDELTA, node.args, strict=False), *((each.arg, each.value) for each in node.keywords)]
            parts = [(_TIMEDELTA.get(name or ""), _number(value)) for name, value in named]
            whole = [size * number for size, number in parts if size is not None and number is not None]
            return sum(whole) if len(whole) == len(parts) else None
        case ast.Call() if _called(node) == "schedule":
            given = [*node.args[:1], *(each.value for each in node.keywords if each.arg == "run_every")]
            return _interval(given[0]) if given else None
        case _:
            return _number(node)


def _called(node: ast.AST | None) -> str:
    if not isinstance(node, ast.Call):
        return ""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _number(node: ast.AST | None) -> float | None:
    """Return a number, or a product of numbers, as people write them: `60.0 * 5`."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        left, right = _number(node.left), _number(node.right)
        return None if left is None or right is None else left * right
    value = _literal(node)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _literal(node: ast.AST | None) -> Any:
    if node is None:
        return None
    try:
        value = ast.literal_eval(node)
        json.dumps(value, default=list)
    except (ValueError, TypeError, RecursionError):
        return None
    return value
