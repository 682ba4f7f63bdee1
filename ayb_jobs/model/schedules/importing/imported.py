"""What an import makes of one entry, and how it is written down as settings."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from ayb_jobs.errors import InvalidInput, PayloadUndecodable
from ayb_jobs.model.checked import MAX_NAME
from ayb_jobs.model.payload import decode_payload_exactly
from ayb_jobs.model.schedules.schedule import NewSchedule


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """One entry of another scheduler.

    `schedule` is None if it cannot be had here, for the reason in `notes`. `statements` is the SQL that it ran, to
    become a job type; `transaction` is false if that SQL cannot run in a transaction.
    """

    source: str
    schedule: NewSchedule | None
    notes: tuple[str, ...] = ()
    statements: tuple[str, ...] = ()
    transaction: bool = True


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


def imported(
    source: str,
    values: Mapping[str, Any],
    notes: Iterable[str],
    statements: Iterable[str] = (),
    *,
    transaction: bool = True,
) -> Imported:
    """Return an entry as a schedule, or without one and with the reason if its values cannot be used."""
    try:
        schedule = NewSchedule(**values)
        payload = decode_payload_exactly(schedule.payload_text)
    except InvalidInput as error:
        return not_imported(source, str(error), notes)
    except PayloadUndecodable:
        return not_imported(source, "its payload is nested too deeply", notes)
    return Imported(
        source=source,
        schedule=NewSchedule(**{**values, "payload": payload}),  # as it will be stored: lists, and texts as keys
        notes=tuple(notes),
        statements=tuple(statements),
        transaction=transaction,
    )


def not_imported(source: str, reason: str, notes: Iterable[str] = ()) -> Imported:
    """Return an entry without a schedule; the last of its notes is the reason."""
    return Imported(source=source, schedule=None, notes=(*notes, f"not imported: {reason}"))


def writable(entry: Imported) -> Imported:
    """Return an entry as settings can say it: TOML has no null, so that a payload with one is named and left out."""
    if entry.schedule is None or not _holds_null(entry.schedule.payload):
        return entry
    reason = "its payload holds null, which settings (TOML) cannot say; --create makes the schedule"
    return not_imported(entry.source, reason, entry.notes)


def _holds_null(value: Any) -> bool:
    match value:
        case None:
            return True
        case dict():
            return any(map(_holds_null, value.values()))
        case list():
            return any(map(_holds_null, value))
        case _:
            return False


def as_toml(entries: Iterable[Imported], *, ascii_only: bool = False) -> str:
    """Return schedules as settings: `[schedules.NAME]`, and `[job_types.NAME]` for those that ran SQL.

    Entries without a schedule become comments. TOML is UTF-8: what is written in another encoding has to be
    `ascii_only`, with escapes for the rest.
    """
    text = "\n".join(line for entry in entries for line in _toml_lines(writable(entry)))
    return "".join(each if each.isascii() else f"\\U{ord(each):08X}" for each in text) if ascii_only else text


def _toml_lines(entry: Imported) -> Iterator[str]:
    for line in (entry.source, *entry.notes):
        yield f"# {_comment(line)}"
    if entry.schedule is not None:
        yield from _job_type_lines(entry, entry.schedule)
        yield from _schedule_lines(entry.schedule)
    yield ""


def _comment(text: str) -> str:
    """Return a text whose control and bidirectional characters stand as escapes; TOML refuses the former."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _job_type_lines(entry: Imported, schedule: NewSchedule) -> Iterator[str]:
    if entry.statements:
        yield f"[job_types.{_text(schedule.job_type)}]"
        yield f"statements = [{', '.join(map(_text, entry.statements))}]"
        if not entry.transaction:
            yield "transaction = false"
        yield ""


def _schedule_lines(schedule: NewSchedule) -> Iterator[str]:
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
    if schedule.jitter_s:
        yield f"jitter_s = {_seconds(schedule.jitter_s)}"
    if schedule.timeout_s is not None:
        yield f"timeout_s = {_seconds(schedule.timeout_s)}"


def _seconds(value: float) -> str:
    return str(int(value) if value == int(value) else value)


def _text(value: str) -> str:
    """Return a TOML basic string: as JSON, but with one escape for what lies beyond U+FFFF."""
    quoted = json.dumps(value, ensure_ascii=False)
    return "".join(each if each.isprintable() else f"\\U{ord(each):08X}" for each in quoted)


def _value(value: Any) -> str:
    match value:
        case dict():
            return f"{{ {', '.join(f'{_text(key)} = {_value(part)}' for key, part in value.items())} }}"
        case list():
            return f"[{', '.join(map(_value, value))}]"
        case str():
            return _text(value)
        case Decimal():
            return str(value)
        case _:
            return json.dumps(value)
