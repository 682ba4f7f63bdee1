"""When a schedule fires: cron expressions, `@every`, and what happens to them when clocks change.

croniter steps through plain calendar time, which knows no zone. This module lays the zone over it, one stretch of
constant UTC offset after another, so that the daylight-saving rule is ours alone and has one place:

- a wildcard or step in the hour field follows real elapsed time: every instant whose local reading matches;
- with a fixed hour, a local time that clocks skip fires once, right after the gap, and one that clocks repeat fires
  once, the first time. `skip` leaves the skipped out, `both` fires the repeated both times.

Three things can be wrong. An expression that cannot be read, or that never fires, is refused (`InvalidInput`). One
whose years are over has ended (`Ended`). One whose next year is far is dormant; `check_cron` refuses it to whoever
writes it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from functools import lru_cache
from itertools import chain
from threading import Lock
from zoneinfo import ZoneInfo

from croniter import croniter

from ayb_jobs.errors import InvalidInput
from ayb_jobs.model.schedules.cron_fields import NICKNAMES, read_fields
from ayb_jobs.model.schedules.day_rule import DayRule
from ayb_jobs.model.schedules.fields import Dst
from ayb_jobs.model.schedules.zones import find_zone, first_shift, shifts, utc_offset

MAX_EXPRESSION = 100
HORIZON = timedelta(days=5 * 366)
MAX_INTERVAL = timedelta(days=366)

_SECOND = timedelta(seconds=1)
# A leap year and no leap second: whatever can fire at all within five years does so within five years of this instant.
_REFERENCE = datetime(2024, 1, 1, tzinfo=UTC)
# No year before this is a year in six fields.
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
# A change of clocks moves nothing further than this, so that those in between need not be looked at.
_NEAR = timedelta(days=2)
# A schedule whose time clocks skip so often, each time that its day comes round, never fires.
_MOST_SHIFTS = 200
_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


class Effect(StrEnum):
    """What a change of clocks did to a fire."""

    MOVED = "moved"
    REPEATED = "repeated"
    REPEAT = "repeat"


class Ended(InvalidInput):
    """The years of a cron expression are over, so that it has no further fire."""


@dataclass(frozen=True, slots=True)
class _Calendar:
    """A parsed expression. `rule` decides about dates, if there is one."""

    stepper: croniter
    lock: Lock
    rule: DayRule | None
    elapsed: bool

    def step(self, local: datetime) -> datetime:
        """Return the next match after a zoneless instant. Raises `ValueError` if there is none."""
        if self.rule is None:
            return self._step(local)
        found = self._next_time(local)
        day = self.rule.next_day(found.date())
        if day is None:
            raise ValueError("there is no further date")
        return found if day == found.date() else self._next_time(datetime.combine(day, time.min) - _SECOND)

    def step_or_none(self, local: datetime) -> datetime | None:
        """Return the next match after a zoneless instant, or None if there is none."""
        try:
            return self.step(local)
        except (OverflowError, ValueError):
            return None

    def _next_time(self, local: datetime) -> datetime:
        """Return the next match by the time of day alone; on a day that croniter can reckon with."""
        shift = local.date() - _REFERENCE.date()
        return self._step(local - shift) + shift

    def _step(self, local: datetime) -> datetime:
        with self.lock:  # croniter keeps its place in itself
            self.stepper.set_current(local, force=True)
            found = self.stepper.get_next(datetime)
        assert isinstance(found, datetime)  # noqa: S101 - croniter bears no types
        return found


def next_fire(expr: str, timezone: str, after: datetime, dst: str = Dst.ONCE) -> datetime:
    """Return the first instant after `after`, in UTC, at which `expr` fires in `timezone`.

    Raises `InvalidInput`, naming the field, if the expression or the zone is wrong, and `Ended` if no fire is left.
    """
    parsed = _parse(expr)
    zone = find_zone(timezone)
    try:
        if isinstance(parsed, timedelta):
            return after.astimezone(UTC).replace(microsecond=0) + parsed
        return _next_calendar_fire(parsed, zone, timezone, after.astimezone(UTC), Dst(dst))
    except (OverflowError, ValueError) as error:
        raise _ended(expr, after) from error


def next_fire_beside(expr: str, timezone: str, fire: datetime, after: datetime, dst: str = Dst.ONCE) -> datetime:
    """Return the first fire after `after` of a schedule that has a fire at `fire`, from which `@every` counts.

    Raises `InvalidInput` as `next_fire` does.
    """
    interval = _parse(expr)
    if not isinstance(interval, timedelta):
        return next_fire(expr, timezone, after, dst)
    counted = fire.astimezone(UTC).replace(microsecond=0)
    try:
        return counted + interval * ((after - counted) // interval + 1)
    except OverflowError as error:
        raise _ended(expr, after) from error


def fires(
    expr: str, timezone: str, after: datetime, dst: str = Dst.ONCE, *, beside: datetime | None = None
) -> Iterator[datetime]:
    """Yield every fire after `after`, in UTC, each computed from the one before.

    `@every` counts from `beside`, a fire that is known, or from `after`.
    """
    if beside is not None:
        after = next_fire_beside(expr, timezone, beside, after, dst)
        yield after
    while True:
        after = next_fire(expr, timezone, after, dst)
        yield after


def _ended(expr: str, after: datetime) -> Ended:
    return Ended(f"cron expression {expr!r} has no fire after {after.astimezone(UTC):%F %T} UTC", field="cron")


def read_cron(expr: str, timezone: str) -> None:
    """Raise `InvalidInput` if a schedule's timing cannot be read, or never fires: the schedule is broken."""
    _parse(expr)
    find_zone(timezone)


def check_cron(expr: str, timezone: str, now: datetime | None = None) -> None:
    """Raise `InvalidInput` unless a timing that somebody writes can be read and fires within five years of `now`.

    Without `now`, an expression that names years has to fire in any of them.
    """
    if not timezone:
        raise InvalidInput("timezone is empty; use an IANA name such as UTC or Europe/Berlin", field="timezone")
    read_cron(expr, timezone)
    message = f"cron expression {expr!r} does not fire within five years"
    if now is None and _names_years(expr):
        next_fire(expr, timezone, _BEGINNING)
        return
    after = now or _REFERENCE
    try:
        fire = next_fire(expr, timezone, after)
    except InvalidInput:
        raise InvalidInput(f"{message}; no such date comes round", field="cron") from None
    if fire > after + HORIZON:
        raise InvalidInput(f"{message}; its next fire is on {fire:%F}", field="cron")


def _names_years(expr: str) -> bool:
    parsed = _parse(expr)
    return isinstance(parsed, _Calendar) and parsed.rule is not None and parsed.rule.years is not None


def clock_effect(expr: str, timezone: str, fire: datetime) -> Effect | None:
    """Tell what a change of clocks did to a fire: moved to the end of a gap, or at a local time that comes twice."""
    parsed = _parse(expr)
    if isinstance(parsed, timedelta):
        return None
    local = fire.astimezone(find_zone(timezone))
    if parsed.step(_naive(local) - _SECOND) != _naive(local) or _skipped_match(parsed, timezone, fire):
        return Effect.MOVED
    if local.replace(fold=0).utcoffset() == local.replace(fold=1).utcoffset():
        return None
    return Effect.REPEAT if local.fold else Effect.REPEATED


def parse_duration(text: str, field: str = "duration") -> timedelta:
    """Return a duration such as `90s`, `1h30m` or `2d`; raise `InvalidInput` for anything else."""
    parts = re.findall(r"(\d{1,9})([dhms])", text, re.ASCII)
    if not parts or "".join(chain.from_iterable(parts)) != text:
        raise InvalidInput(f"{field} {text!r} is not a duration; write one such as 90s, 15m, 1h30m or 2d", field=field)
    return timedelta(seconds=sum(int(count) * _UNITS[unit] for count, unit in parts))


def follows_elapsed_time(expr: str) -> bool:
    """Tell whether an expression follows real elapsed time, so that no daylight-saving rule applies to it."""
    parsed = _parse(expr)
    return isinstance(parsed, timedelta) or parsed.elapsed


# Laying the zone over the calendar


def _next_calendar_fire(calendar: _Calendar, zone: ZoneInfo, key: str, after: datetime, dst: Dst) -> datetime:
    repeats = calendar.elapsed or dst is Dst.BOTH
    gaps = not calendar.elapsed and dst is not Dst.SKIP
    instant = after
    offset = utc_offset(zone, instant)
    local = _naive(instant + offset)
    if not repeats and instant.astimezone(zone).fold:
        local = max(local, _end_of_repeated(zone, key, instant) - _SECOND)
    for _ in range(_MOST_SHIFTS):
        match = calendar.step_or_none(local)
        if match is not None and match - local > 2 * _NEAR and first_shift(key, instant, instant + _NEAR) is None:
            instant = match.replace(tzinfo=UTC) - offset - _NEAR
            offset = utc_offset(zone, instant)
            local = _naive(instant + offset)
        shift = first_shift(key, instant, instant + _NEAR if match is None else match.replace(tzinfo=UTC) - offset)
        if shift is None:
            if match is None:
                break
            return match.replace(tzinfo=UTC) - offset
        offset_after = utc_offset(zone, shift)
        shift_before, shift_after = _naive(shift + offset), _naive(shift + offset_after)
        if (
            gaps and match is not None and match < shift_after
        ):  # a skipped time; where clocks go back there is none before `shift_after`
            return shift
        resume = shift_after if repeats else max(shift_before, shift_after)
        instant, offset, local = shift, offset_after, resume - _SECOND
    raise ValueError("there is no further date, or clocks skip each of them")


def _end_of_repeated(zone: ZoneInfo, key: str, instant: datetime) -> datetime:
    """Return the local time at which the repeated times end, for an instant among them on their second round."""
    shift = max(s for year in (instant.year - 1, instant.year) for s in shifts(key, year) if s <= instant)
    return _naive(shift + utc_offset(zone, shift - _SECOND))


def _skipped_match(calendar: _Calendar, key: str, fire: datetime) -> bool:
    """Tell whether `fire` is the end of a gap in which the calendar matches while it does not match at its end."""
    zone = find_zone(key)
    if calendar.elapsed or fire not in shifts(key, fire.year):
        return False
    before, after = _naive(fire + utc_offset(zone, fire - _SECOND)), _naive(fire + utc_offset(zone, fire))
    return before < after and calendar.step(before - _SECOND) < after


def _naive(instant: datetime) -> datetime:
    return instant.replace(tzinfo=None, fold=0)


# Parsing


@lru_cache(maxsize=4096)
def _parse(expr: str) -> _Calendar | timedelta:
    if len(expr) > MAX_EXPRESSION:
        message = f"cron expression has {len(expr)} characters; at most {MAX_EXPRESSION} are allowed"
        raise InvalidInput(message, field="cron")
    text = expr.strip().lower()
    if text.startswith("@every") and text not in NICKNAMES:
        return _interval(expr, text.removeprefix("@every").strip())
    if text.startswith("@") and text not in NICKNAMES:
        known = ", ".join([*NICKNAMES, "@every 90s"])
        raise InvalidInput(f"cron expression {expr!r} is not known; there are {known}", field="cron")
    return _calendar(expr, text)


def _interval(expr: str, text: str) -> timedelta:
    interval = parse_duration(text, "cron")
    if not _SECOND <= interval <= MAX_INTERVAL:
        raise InvalidInput(f"{expr!r} is not a usable interval; intervals go from 1s to 366d", field="cron")
    return interval


def _calendar(expr: str, text: str) -> _Calendar:
    fields = read_fields(expr, text)
    try:
        start = _naive(_REFERENCE)
        stepper = croniter(fields.plain, start, second_at_beginning=True, day_or=fields.either_day)
        calendar = _Calendar(stepper, Lock(), fields.rule, fields.elapsed)
        if fields.rule is None or fields.rule.years is None:
            calendar.step(start)
    except ValueError:
        message = f"cron expression {expr!r} does not fire within five years; no such date comes round"
        raise InvalidInput(message, field="cron") from None
    return calendar
