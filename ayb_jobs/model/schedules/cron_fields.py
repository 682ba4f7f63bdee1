"""Read the fields of a cron expression into plain numbers, so that nothing is left to croniter's own reading.

croniter reads some expressions otherwise than cron does (`2-2` as every value, `15W` as 15, `R` as a random number).
It gets lists of numbers alone. Days that no list of numbers can say (`L`, `15W`, `5#2`, `5L`) become a `DayRule`.

The dialect is that of cron and of gronx, which AYB uses; `docs/schedules-reference.md` describes it.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple

from ayb_jobs.errors import InvalidInput
from ayb_jobs.frozen import frozen
from ayb_jobs.model.schedules.day_rule import MAX_YEAR, DayRule

NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
    "@30minutes": "0,30 * * * *",
    "@15minutes": "*/15 * * * *",
    "@10minutes": "*/10 * * * *",
    "@5minutes": "*/5 * * * *",
    "@always": "* * * * *",
    "@everysecond": "* * * * * *",
}

DAYS_IN_WEEK = 7


class FieldTexts(NamedTuple):
    """The fields of an expression as they are written; `0` and `*` stand for a second and a year that are not."""

    second: str
    minute: str
    hour: str
    day: str
    month: str
    weekday: str
    year: str


def field_texts(text: str) -> FieldTexts | None:
    """Return the fields of an expression in small letters, or None if their number is wrong.

    Six fields are a year's if the last one holds a number of four digits; otherwise the first one is the second.
    """
    fields = NICKNAMES.get(text, text).split()
    match fields:
        case [_, _, _, _, _]:
            return FieldTexts._make(["0", *fields, "*"])
        case [_, _, _, _, _, last] if re.search(r"[0-9]{4}", last):
            return FieldTexts._make(["0", *fields])
        case [_, _, _, _, _, _]:
            return FieldTexts._make([*fields, "*"])
        case [_, _, _, _, _, _, _]:
            return FieldTexts._make(fields)
        case _:
            return None


@frozen
class CronFields:
    """What an expression says.

    `plain` are six fields, seconds first, as croniter reads them without doubt. `either_day` tells that a day may match
    by its number or by its weekday. If there is a `rule`, it decides about dates, and `plain` about times of day alone.
    `elapsed` tells that the hour is a wildcard or has a step.
    """

    plain: str
    either_day: bool
    rule: DayRule | None
    elapsed: bool


class _Field(NamedTuple):
    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_SECOND = _Field("second", 0, 59)
_MINUTE = _Field("minute", 0, 59)
_HOUR = _Field("hour", 0, 23)
_DAY_OF_MONTH = _Field("day of month", 1, 31)
_MONTH = _Field("month", 1, 12, _MONTHS)
_DAY_OF_WEEK = _Field("day of week", 0, 6, _WEEKDAYS)
_YEAR = _Field("year", 1, MAX_YEAR)

_PART = re.compile(r"\?|(?:\*|(?P<first>\d+|[a-z]{3})(?:-(?P<last>\d+|[a-z]{3}))?)(?:/(?P<step>\d+))?", re.ASCII)
_WORKDAY = re.compile(r"(\d{1,2})w", re.ASCII)
_LAST_WEEKDAY = re.compile(r"l([0-7]|[a-z]{3})|([0-7]|[a-z]{3})l", re.ASCII)
_NTH_WEEKDAY = re.compile(r"([0-7]|[a-z]{3})#([1-5])", re.ASCII)


def read_fields(expr: str, text: str) -> CronFields:
    """Return what `text`, an expression in small letters, says.

    Raise `InvalidInput` about `expr` if it says nothing.
    """
    texts = field_texts(text)
    if texts is None:
        message = (
            f"cron expression {expr!r} has {len(text.split())} fields; write five (minute, hour, day of month, month, "
            "day of week), six with seconds first or the year last, or seven with both"
        )
        raise InvalidInput(message, field="cron")
    return _Reader(expr).fields(texts)


def lists_every_day(text: str, *, weekday: bool) -> bool:
    """Tell whether a field of days names all its values. Raises `InvalidInput` if it cannot be read."""
    return _Reader(text).days(_DAY_OF_WEEK if weekday else _DAY_OF_MONTH, text.lower()).is_free


def numbers_of_days(text: str, *, weekday: bool) -> frozenset[int]:
    """Return the plain numbers that a field of days names. Raises `InvalidInput` if it cannot be read."""
    return _Reader(text).days(_DAY_OF_WEEK if weekday else _DAY_OF_MONTH, text.lower()).numbers


class _Days(NamedTuple):
    """One of the two fields of days: its plain numbers, and what else it names."""

    numbers: frozenset[int]
    specials: frozenset[str]
    is_free: bool


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads the fields of one expression. `expr` is how its author wrote it, for what is said about it."""

    expr: str

    def fields(self, texts: FieldTexts) -> CronFields:
        """Return what all the fields say."""
        second, minute, hour = (
            _plain(field, self._all_numbers(field, text.split(",")))
            for field, text in ((_SECOND, texts.second), (_MINUTE, texts.minute), (_HOUR, texts.hour))
        )
        months = self._all_numbers(_MONTH, texts.month.split(","))
        day = self.days(_DAY_OF_MONTH, texts.day)
        weekday = self.days(_DAY_OF_WEEK, texts.weekday)
        years = self._years(texts.year)
        # Vixie's rule: a field that begins with a star does not restrict the day, so that both have to match.
        both = day.is_free or weekday.is_free or any(each.startswith(("*", "?")) for each in (texts.day, texts.weekday))
        dates = " ".join(
            [_plain(_DAY_OF_MONTH, day.numbers), _plain(_MONTH, months), _plain(_DAY_OF_WEEK, weekday.numbers)]
        )
        rule = None
        if day.specials or weekday.specials or years is not None:
            rule, dates = self._rule(day, weekday, both=both, months=months, years=years), "* * *"
        return CronFields(
            plain=f"{second} {minute} {hour} {dates}",
            either_day=not both,
            rule=rule,
            elapsed=hour == "*" or "/" in texts.hour,
        )

    def days(self, field: _Field, text: str) -> _Days:
        """Return what a field of days names."""
        parts = text.split(",")
        specials = frozenset(part for part in parts if self._is_special(field, part))
        numbers = self._all_numbers(field, [part for part in parts if part not in specials])
        return _Days(numbers, specials, is_free=len(numbers) > field.high - field.low)

    def _is_special(self, field: _Field, part: str) -> bool:
        if field is _DAY_OF_MONTH:
            found = _WORKDAY.fullmatch(part)
            return part == "l" or (found is not None and field.low <= int(found[1]) <= field.high)
        found = _LAST_WEEKDAY.fullmatch(part) or _NTH_WEEKDAY.fullmatch(part)
        name = next(filter(None, found.groups())) if found else ""
        return name.isdecimal() or name in field.names

    def _rule(
        self, day: _Days, weekday: _Days, *, both: bool, months: frozenset[int], years: tuple[range, ...] | None
    ) -> DayRule:
        last = filter(None, map(_LAST_WEEKDAY.fullmatch, weekday.specials))
        nth = filter(None, map(_NTH_WEEKDAY.fullmatch, weekday.specials))
        return DayRule(
            days=day.numbers,
            last_day="l" in day.specials,
            workdays=frozenset(int(found[1]) for found in filter(None, map(_WORKDAY.fullmatch, day.specials))),
            weekdays=weekday.numbers,
            last_weekdays=frozenset(self._number(_DAY_OF_WEEK, found[1] or found[2]) for found in last),
            nth_weekdays=frozenset((self._number(_DAY_OF_WEEK, found[1]), int(found[2])) for found in nth),
            both=both,
            months=months,
            years=years,
        )

    def _all_numbers(self, field: _Field, parts: list[str]) -> frozenset[int]:
        return frozenset(number for part in parts for number in self._numbers(field, part))

    def _numbers(self, field: _Field, part: str) -> set[int]:
        first, last, step = self._part(field, part)
        span = field.high - field.low + 1
        if first is None:
            return set(range(field.low, field.high + 1, step))
        if last is None:
            start = step if first < field.low else first
            return set(range(start, field.high + 1, step)) if "/" in part else {first}
        sundays = [text.lstrip("0") == "7" for text in part.partition("/")[0].split("-")]
        if field is _DAY_OF_WEEK and first == 0 and sundays == [False, True]:
            last = span - 1  # 0-7 is the whole week, not Sunday alone, which is 7-7
        wrapped = last + (span if last < first else 0)
        return {field.low + (value - field.low) % span for value in range(first, wrapped + 1, step)}

    def _years(self, text: str) -> tuple[range, ...] | None:
        """Return the years as ranges, since there may be thousands of them; None for all."""
        if text in ("*", "?"):
            return None
        return tuple(self._year_range(part) for part in text.split(","))

    def _year_range(self, part: str) -> range:
        first, last, step = self._part(_YEAR, part)
        if first is None:
            return range(step, MAX_YEAR + 1, step)
        if last is None:
            return range(first or step, MAX_YEAR + 1 if "/" in part else first + 1, step)
        if last < first:
            raise InvalidInput(f"cron expression {self.expr!r}: year {part!r} ends before it begins", field="cron")
        return range(first, last + 1, step)

    def _part(self, field: _Field, part: str) -> tuple[int | None, int | None, int]:
        """Return where a part begins (None for a star), where it ends (None if that is not said), and its step.

        A step from 0 counts from 0 in every field, as in gronx: `0/5` are the days 5, 10, 15 and so on.
        """
        found = _PART.fullmatch(part)
        step = int(found["step"] or 1) if found else 0
        if found is None or step == 0:
            raise self._refusal(field, part, "is not understood")
        if found["first"] is None:
            return None, None, step
        from_zero = int(found["first"]) == 0 if found["first"].isdecimal() else False
        first = 0 if from_zero and found["step"] and not found["last"] else self._number(field, found["first"])
        return first, self._number(field, found["last"]) if found["last"] else None, step

    def _number(self, field: _Field, text: str) -> int:
        if text in field.names:
            return field.low + field.names.index(text)
        value = int(text) if text.isdecimal() else -1
        if field is _DAY_OF_WEEK and value == len(_WEEKDAYS):
            return 0
        if not field.low <= value <= field.high:
            raise self._refusal(field, text, "is out of range")
        return value

    def _refusal(self, field: _Field, text: str, why: str) -> InvalidInput:
        names = f" or {field.names[0]} to {field.names[-1]}" if field.names else ""
        seven = ", with 7 for Sunday too" if field is _DAY_OF_WEEK else ""
        message = (
            f"cron expression {self.expr!r}: {field.name} {text!r} {why}; "
            f"it goes from {field.low} to {field.high}{names}{seven}"
        )
        return InvalidInput(message, field="cron")


def _plain(field: _Field, numbers: frozenset[int]) -> str:
    return "*" if len(numbers) > field.high - field.low else ",".join(map(str, sorted(numbers)))
