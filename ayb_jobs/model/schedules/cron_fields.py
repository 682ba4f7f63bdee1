"""Reading the fields of a cron expression into plain numbers, which leave nothing to croniter's own understanding.

croniter reads some expressions otherwise than cron does (`2-2` as every value, `15W` as 15, `R` as a random number), so
that it is handed lists of numbers alone, and the few words that it does know: `L`, `5#2` and `L5`.
"""

import re
from typing import NamedTuple

from ayb_jobs.errors import InvalidInput

NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


class _Field(NamedTuple):
    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS = (
    _Field("second", 0, 59),
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of week", 0, 6, _DAYS),
)
_PART = re.compile(
    r"(?:\*|(?P<first>\d{1,2}|[a-z]{3})(?:-(?P<last>\d{1,2}|[a-z]{3}))?)(?:/(?P<step>\d{1,4}))?", re.ASCII
)
_SPECIAL_DAY = re.compile(r"(?:l(?P<last>[0-7]|[a-z]{3})|(?P<day>[0-7]|[a-z]{3})#(?P<nth>[1-5]))", re.ASCII)


class CronFields(NamedTuple):
    """An expression's six fields, seconds first, as croniter reads them without doubt.

    `elapsed` tells that the hour is a wildcard or has a step.
    """

    plain: str
    elapsed: bool


def read_fields(expr: str, text: str) -> CronFields:
    """Return the fields of `text`, an expression in small letters; raise `InvalidInput` about `expr` where it is none."""
    fields = NICKNAMES.get(text, text).split()
    if len(fields) not in (5, 6):
        message = (
            f"cron expression {expr!r} has {len(fields)} fields; write five (minute, hour, day of month, month, day of "
            "week), or six with seconds first"
        )
        raise InvalidInput(message, field="cron")
    texts = fields if len(fields) == len(_FIELDS) else ["0", *fields]
    plain = [_plain_field(expr, field, text) for field, text in zip(_FIELDS, texts, strict=True)]
    _, _, hour, day, _, weekday = plain
    if ("l" in day and weekday != "*") or (re.search("[l#]", weekday) and day != "*"):
        message = f"cron expression {expr!r}: L and # cannot be combined with the other day field; write * there"
        raise InvalidInput(message, field="cron")
    return CronFields(" ".join(plain), elapsed=hour == "*" or "/" in texts[2])


def _plain_field(expr: str, field: _Field, text: str) -> str:
    """Return a field as croniter reads it without doubt: `*`, or a list of plain numbers, `l`, `3#2` and `l5`."""
    if text == "?" and field.name.startswith("day"):
        return "*"
    numbers: set[int] = set()
    specials: list[str] = []
    for part in text.split(","):
        special = _special(field, part)
        if special:
            specials.append(special)
        else:
            numbers.update(_numbers(expr, field, part))
    if specials and numbers and field.name == "day of week":
        raise InvalidInput(f"cron expression {expr!r}: # and L stand alone in the day of week", field="cron")
    if len(numbers) > field.high - field.low:
        return "*"
    return ",".join([*map(str, sorted(numbers)), *specials])


def _special(field: _Field, part: str) -> str | None:
    if field.name == "day of month" and part == "l":
        return "l"
    found = _SPECIAL_DAY.fullmatch(part) if field.name == "day of week" else None
    if found is None:
        return None
    name = found["last"] or found["day"]
    if name.isalpha() and name not in field.names:
        return None
    day = field.names.index(name) if name.isalpha() else int(name) % 7
    return f"l{day}" if found["last"] else f"{day}#{found['nth']}"


def _numbers(expr: str, field: _Field, part: str) -> set[int]:
    found = _PART.fullmatch(part)
    step = int(found["step"] or 1) if found else 0
    if found is None or step == 0:
        raise InvalidInput(
            f"cron expression {expr!r}: {field.name} {part!r} is not understood; {_range(field)}", field="cron"
        )
    span = field.high - field.low + 1
    if found["first"] is None:
        return set(range(field.low, field.high + 1, step))
    first = _number(expr, field, found["first"])
    if found["last"] is None:
        return set(range(first, field.high + 1, step)) if found["step"] else {first}
    last = _number(expr, field, found["last"])
    if field.names is _DAYS and found["last"] == "7" and first == 0:
        last = span - 1  # 0-7 is the whole week, not Sunday alone
    return {
        field.low + (value - field.low) % span for value in range(first, last + (span if last < first else 0) + 1, step)
    }


def _number(expr: str, field: _Field, text: str) -> int:
    if text in field.names:
        return field.low + field.names.index(text)
    value = int(text) if text.isdecimal() else -1
    if field.names is _DAYS and value == len(_DAYS):
        return 0
    if not field.low <= value <= field.high:
        raise InvalidInput(
            f"cron expression {expr!r}: {field.name} {text!r} is out of range; {_range(field)}", field="cron"
        )
    return value


def _range(field: _Field) -> str:
    names = f" or {field.names[0]} to {field.names[-1]}" if field.names else ""
    seven = ", with 7 for Sunday too" if field.names is _DAYS else ""
    return f"it goes from {field.low} to {field.high}{names}{seven}"
