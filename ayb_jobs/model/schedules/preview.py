"""Seeing before doing: the next fires of a schedule, and what looks wrong about one."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice, pairwise, takewhile
from typing import NamedTuple

from ayb_jobs.errors import InvalidInput
from ayb_jobs.model.schedules.cron import Dst, Effect, clock_effect, fires, follows_elapsed_time, next_fire
from ayb_jobs.model.schedules.schedule import Schedule
from ayb_jobs.model.schedules.zones import local_time

_SECOND = timedelta(seconds=1)


class Foreseen(NamedTuple):
    """A time at which a schedule fires, or at which it would under another daylight-saving rule.

    `local` is `at` as the clocks of the schedule's zone show it; `note` tells what a change of clocks does to it.
    """

    at: datetime
    local: datetime
    is_fire: bool
    note: str


def foresee(
    cron: str, timezone: str, after: datetime, dst: str = Dst.ONCE, *, beside: datetime | None = None
) -> Iterator[Foreseen]:
    """Yield the fires after an instant, and among them those that the daylight-saving rule leaves out.

    `@every` counts from `beside`, a fire that is known, or from the instant. Raises `InvalidInput` where the schedule cannot fire.
    """
    rule = Dst.ONCE if follows_elapsed_time(cron) else Dst.BOTH  # under `both`, nothing is left out
    for at in fires(cron, timezone, after, rule, beside=beside):
        effect = clock_effect(cron, timezone, at)
        is_fire = effect is None or next_fire(cron, timezone, at - _SECOND, dst) == at
        note = "" if effect is None else _note(effect, is_fire=is_fire)
        yield Foreseen(at=at, local=local_time(at, timezone), is_fire=is_fire, note=note)


def _note(effect: Effect, *, is_fire: bool) -> str:
    match effect, is_fire:
        case Effect.MOVED, True:
            return "clocks skip its time: it fires right after"
        case Effect.MOVED, False:
            return "clocks skip its time: it is left out"
        case Effect.REPEATED, _:
            return "its time comes twice: the first"
        case _, True:
            return "its time comes twice: the second"
        case _:
            return "its time comes twice: the second is left out"


class Finding(NamedTuple):
    """Something about a schedule that looks wrong; an `error` keeps it from firing, a `warning` may be meant so."""

    schedule: str
    level: str
    message: str


# A schedule that says nothing else about itself fires this often in the time that lint looks at.
_LOOK_AHEAD = timedelta(days=370)
_MOST_FIRES = 2000
_FEW = 4


def examine(schedule: Schedule, now: datetime) -> list[Finding]:
    """Return what looks wrong about a schedule by itself."""
    try:
        ahead = list(takewhile(lambda fire: fire < now + _LOOK_AHEAD, islice(_fires(schedule, now), _MOST_FIRES)))
    except InvalidInput as error:
        return [Finding(schedule.name, "error", str(error))]
    messages = [*_odd_fields(schedule.cron), *_odd_clocks(schedule, now), *_odd_expectations(schedule, ahead)]
    return [Finding(schedule.name, "warning", message) for message in messages]


def _fires(schedule: Schedule, after: datetime) -> Iterator[datetime]:
    return fires(schedule.cron, schedule.timezone, after, schedule.dst, beside=schedule.next_run_at)


def _odd_fields(cron: str) -> Iterator[str]:
    fields = cron.split()
    if len(fields) not in (5, 6):
        return
    *seconds, minute, hour, day, month, weekday = fields
    if seconds and seconds[0] == "*" and (minute, hour) != ("*", "*"):
        yield "fires in every second of its minutes: the seconds are the first of six fields"
    if day not in ("*", "?") and weekday not in ("*", "?"):
        yield f"fires on days of the month {day} and also on weekdays {weekday}: either is enough"
    if day == "29" and month.lower() in ("2", "02", "feb") and weekday in ("*", "?"):
        yield "fires on 29 February alone, in leap years"
    elif day in ("29", "30", "31") and month == "*":
        yield f"leaves out the months that have no day {day}; L is the last day of each month"
    for name, text, size in (("minutes", minute, 60), ("hours", hour, 24), *(("seconds", s, 60) for s in seconds)):
        yield from _odd_step(name, text, size)


def _odd_step(name: str, text: str, size: int) -> Iterator[str]:
    start, slash, step = text.partition("/")
    if not slash or start not in ("*", "0") or not step.isdecimal():
        return
    if int(step) >= size:
        yield f"*/{step} {name} is more than there are, so that only 0 is left; @every counts on"
    elif size % int(step):
        yield f"*/{step} {name} begins anew at 0, after {size % int(step)} of them; @every keeps its distance"


def _odd_clocks(schedule: Schedule, now: datetime) -> Iterator[str]:
    if follows_elapsed_time(schedule.cron):
        return
    for seen in islice(foresee(schedule.cron, schedule.timezone, now, schedule.dst), _MOST_FIRES):
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
    if timedelta(seconds=within_s) <= longest:
        yield f"expects a success within {timedelta(seconds=within_s)}, but fires up to {longest} apart"


class Collision(NamedTuple):
    """Schedules that fire in the same minute: how often within the time looked at, and first when."""

    schedules: tuple[str, ...]
    times: int
    first_at: datetime


def collisions(fire_times: Mapping[str, Sequence[datetime]]) -> list[Collision]:
    """Return which schedules fire in the same minute, the largest gatherings first."""
    by_minute: dict[datetime, set[str]] = {}
    for name, times in fire_times.items():
        for time in times:
            by_minute.setdefault(time.replace(second=0, microsecond=0), set()).add(name)
    together: dict[tuple[str, ...], list[datetime]] = {}
    for minute, names in by_minute.items():
        if len(names) > 1:
            together.setdefault(tuple(sorted(names)), []).append(minute)
    found = [Collision(names, len(minutes), min(minutes)) for names, minutes in together.items()]
    return sorted(found, key=lambda each: (-len(each.schedules), -each.times, each.schedules))
