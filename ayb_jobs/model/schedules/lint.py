"""What looks wrong about a schedule."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice, pairwise, takewhile
from typing import NamedTuple, TypeVar

from ayb_jobs.errors import InvalidInput
from ayb_jobs.model.schedules.cron import HORIZON, Ended, fires, follows_elapsed_time, next_fire, read_cron
from ayb_jobs.model.schedules.cron_fields import field_texts
from ayb_jobs.model.schedules.preview import foresee
from ayb_jobs.model.schedules.schedule import Schedule
from ayb_jobs.model.schedules.zones import LOCAL


class Finding(NamedTuple):
    """Something about a schedule that looks wrong: an `error` keeps it from firing, a `warning` may be meant so."""

    schedule: str
    level: str
    message: str


# A schedule that says nothing else about itself fires this often in the time that lint looks at.
_LOOK_AHEAD = timedelta(days=370)
_MOST_FIRES = 2000
_FEW = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class _Timing:
    """What a timing says by itself: the fires in the time that lint looks at, and what looks odd."""

    ahead: Sequence[datetime]
    messages: Sequence[str]


def examine(schedule: Schedule, now: datetime) -> list[Finding]:
    """Return what looks wrong about a schedule by itself."""
    return examine_all([schedule], now)


def examine_all(schedules: Iterable[Schedule], now: datetime) -> list[Finding]:
    """Return what looks wrong about schedules; a timing that several have is reckoned once."""
    known: dict[object, _Timing | str] = {}
    return [finding for schedule in schedules for finding in _examine(schedule, now, known)]


def _examine(schedule: Schedule, now: datetime, known: dict[object, _Timing | str]) -> Iterator[Finding]:
    counted = schedule.cron.strip().lower().startswith("@every")  # from a fire that each schedule has for itself
    beside = schedule.next_run_at if counted else None
    key = (schedule.cron, schedule.timezone, schedule.dst, beside)
    if key not in known:
        known[key] = _timing(schedule, now)
    match known[key]:
        case str(error):
            yield Finding(schedule.name, "error", error)
        case timing:
            for message in (*timing.messages, *_odd_expectations(schedule, timing.ahead)):
                yield Finding(schedule.name, "warning", message)


def _timing(schedule: Schedule, now: datetime) -> _Timing | str:
    """Return what a schedule's timing says; if it cannot be read, why."""
    try:
        read_cron(schedule.cron, schedule.timezone)
    except InvalidInput as error:
        return str(error)
    found = fires(schedule.cron, schedule.timezone, now, schedule.dst, beside=schedule.next_run_at)
    ahead = list(takewhile(lambda fire: fire < now + _LOOK_AHEAD, islice(_until_ended(found), _MOST_FIRES)))
    messages = [
        *_odd_years(schedule, now, ahead),
        *_odd_fields(schedule.cron),
        *_odd_zone(schedule.timezone),
        *_odd_clocks(schedule, now),
    ]
    return _Timing(ahead=ahead, messages=messages)


T = TypeVar("T")


def _until_ended(found: Iterator[T]) -> Iterator[T]:
    with suppress(Ended):
        yield from found


def _odd_years(schedule: Schedule, now: datetime, ahead: Sequence[datetime]) -> Iterator[str]:
    if ahead:
        return
    try:
        fire = next_fire(schedule.cron, schedule.timezone, now, schedule.dst)
    except Ended:
        yield "has ended: it has no further fire"
        return
    if fire > now + HORIZON:
        yield f"is dormant: its next fire is on {fire:%F}"


def _odd_zone(timezone: str) -> Iterator[str]:
    if timezone == LOCAL:
        yield "is in the zone Local, which is that of the daemon's host, and may be another on the next host: name it"


def _odd_fields(cron: str) -> Iterator[str]:
    texts = field_texts(cron.strip().lower())
    if texts is None or cron.startswith("@"):
        return
    second, minute, hour, day, month, weekday, _ = texts
    if second == "*" and (minute, hour) != ("*", "*"):
        yield "fires in every second of its minutes: the seconds are the first of the fields"
    if day not in ("*", "?") and weekday not in ("*", "?"):
        both = day.startswith("*") or weekday.startswith("*")
        rule = "both have to match, since one begins with *" if both else "it fires on days that match either"
        yield f"names days of the month ({day}) and days of the week ({weekday}): {rule}"
    if day == "29" and month in ("2", "02", "feb") and weekday in ("*", "?"):
        yield "fires on 29 February alone, in leap years"
    elif day in ("29", "30", "31") and month == "*":
        yield f"leaves out the months that have no day {day}; L is the last day of each month"
    for name, text, size in (("minutes", minute, 60), ("hours", hour, 24), ("seconds", second, 60)):
        yield from _odd_step(name, text, size)


def _odd_step(name: str, text: str, size: int) -> Iterator[str]:
    start, slash, step = text.partition("/")
    if not slash or start not in ("*", "0") or not step.isdecimal():
        return
    if int(step) >= size:
        yield f"*/{step} is more than all {size} {name}, so that it fires at 0 alone; @every {step}{name[0]} does not"
    elif size % int(step):
        yield f"*/{step} does not divide {size} {name}: the last gap is {size % int(step)}; @every keeps the distance"


def _odd_clocks(schedule: Schedule, now: datetime) -> Iterator[str]:
    if follows_elapsed_time(schedule.cron):
        return
    for seen in islice(_until_ended(foresee(schedule.cron, schedule.timezone, now, schedule.dst)), _MOST_FIRES):
        if seen.at > now + _LOOK_AHEAD:
            return
        if seen.note:
            yield f"on {seen.local:%F at %R %Z}, {seen.note}"
            return


def _odd_expectations(schedule: Schedule, ahead: Sequence[datetime]) -> Iterator[str]:
    within_s = schedule.expect_success_within_s
    if within_s is None or len(ahead) < _FEW:
        return
    longest = max(later - earlier for earlier, later in pairwise(ahead))
    if within_s <= longest.total_seconds():
        apart_s = longest.total_seconds()
        yield f"expects a success within {_shown(within_s)}, but fires up to {_shown(apart_s)} apart"


def _shown(seconds: float) -> str:
    """Return a time span in the largest unit that leaves no rest: `90 s`, `25 h`."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds and seconds % length == 0:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:g} s"
