"""The next fires of a schedule, and which schedules fire together."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from ayb_jobs.model.schedules.cron import Effect, Ended, clock_effect, fires, follows_elapsed_time, next_fire
from ayb_jobs.model.schedules.fields import Dst
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

    `@every` counts from `beside`, a fire that is known, or from the instant. Raises `InvalidInput` if the timing cannot
    be read, and `Ended` after the last fire, if there is one.
    """
    rule = Dst.ONCE if follows_elapsed_time(cron) else Dst.BOTH  # under `both`, nothing is left out
    for at in fires(cron, timezone, after, rule, beside=beside):
        effect = clock_effect(cron, timezone, at)
        is_fire = effect is None or _fires_at(cron, timezone, at, dst)
        note = "" if effect is None else _note(effect, is_fire=is_fire)
        yield Foreseen(at=at, local=local_time(at, timezone), is_fire=is_fire, note=note)


def _fires_at(cron: str, timezone: str, at: datetime, dst: str) -> bool:
    try:
        return next_fire(cron, timezone, at - _SECOND, dst) == at
    except Ended:
        return False


def _note(effect: Effect, *, is_fire: bool) -> str:
    match effect, is_fire:
        case Effect.MOVED, True:
            return "clocks skip it: fires right after"
        case Effect.MOVED, False:
            return "clocks skip it: left out"
        case Effect.REPEATED, _:
            return "comes twice: the first"
        case _, True:
            return "comes twice: the second"
        case _:
            return "comes twice: the second left out"


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
