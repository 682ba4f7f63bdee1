"""How much waited and ran in the last hour, in words."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from ayb_jobs.http.dashboard.clock import Clock
from ayb_jobs.model.words import counted, span_words
from ayb_jobs.storage.queue.minutes import COUNTED, Level

LEAST_S = 0.001
HOUR = timedelta(hours=1)


def count_of(level: Level, name: str) -> str:
    """Return how many jobs were due or ran at one moment; at least so many, if not all were counted."""
    return counted(getattr(level, name), most=COUNTED, cut=level.cut and name == "waiting")


def points_of(levels: Sequence[Level], name: str, now: datetime) -> list[tuple[float, float]]:
    """Return a figure of the hour before `now` as the points of a line."""
    return [(min(1, max(0, 1 - (now - each.at) / HOUR)), getattr(each, name)) for each in levels]


def most_of(levels: Sequence[Level], name: str) -> str:
    """Return the most that were due or ran."""
    top = max(levels, key=lambda each: getattr(each, name), default=None)
    return count_of(top, name) if top else "0"


def most_words(clock: Clock, levels: Sequence[Level], name: str) -> str:
    """Return when the most were due or ran."""
    if not levels:
        return "not measured yet"
    top = max(levels, key=lambda each: getattr(each, name))
    if not getattr(top, name):
        return "none in the hour"
    return f"most in the hour: {count_of(top, name)} at {clock.short(top.at)}"


def longest_words(clock: Clock, levels: Sequence[Level]) -> str:
    """Return when a job had waited longest."""
    if not levels:
        return "not measured yet"
    top = max(levels, key=lambda each: each.oldest_wait_s)
    if top.oldest_wait_s < LEAST_S:
        return "none in the hour"
    return f"longest in the hour: {span_words(top.oldest_wait_s)} at {clock.short(top.at)}"


def said(levels: Sequence[Level], name: str, what: str) -> str:
    """Return the title of a chart of how many were due or ran."""
    if not levels:
        return f"{what} in the last hour: not measured yet"
    least = min(levels, key=lambda each: getattr(each, name))
    return (
        f"{what} in the last hour: between {count_of(least, name)} and {most_of(levels, name)}, "
        f"last {count_of(levels[-1], name)}"
    )


def waits(levels: Sequence[Level]) -> str:
    """Return the title of a chart of the longest waits."""
    if not levels:
        return "Oldest wait in the last hour: not measured yet"
    values = [each.oldest_wait_s for each in levels]
    return (
        f"Oldest wait in the last hour: between {span_words(min(values))} and {span_words(max(values))}, "
        f"last {span_words(values[-1])}"
    )
