"""What a schedule's fires ought to be, found by looking at every minute of real time.

Written without `ayb_jobs.model.schedules.cron` in mind: nothing is parsed and nothing is skipped over. An expression comes with a
predicate over the fields of a clock; a minute fires where a clock on the wall, read at that minute, satisfies it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

MINUTE = timedelta(minutes=1)
AROUND = timedelta(hours=3)

Clock = Callable[[datetime], bool]


@dataclass(frozen=True, slots=True)
class Kind:
    """An expression, what it means, and whether its hour is a wildcard or a step."""

    expr: str
    matches: Clock
    elapsed: bool


def transitions(zone: ZoneInfo, first_year: int, last_year: int) -> Iterator[datetime]:
    """Yield the minutes (UTC) from which the zone's offset is another than a minute before."""
    hour = datetime(first_year, 1, 1, tzinfo=UTC)
    end = datetime(last_year + 1, 1, 1, tzinfo=UTC)
    before = hour.astimezone(zone).utcoffset()
    while hour < end:
        hour += timedelta(hours=3)
        if hour.astimezone(zone).utcoffset() != before:
            minute = hour - timedelta(hours=3)
            while minute.astimezone(zone).utcoffset() == before:
                minute += MINUTE
            yield minute
            before = hour.astimezone(zone).utcoffset()


def minutes_around(zone: ZoneInfo, transition: datetime) -> list[datetime]:
    """Return every minute near a transition as the zone's clocks show it."""
    count = 2 * AROUND // MINUTE
    return [(transition - AROUND + number * MINUTE).astimezone(zone) for number in range(count)]


def skipped_minutes(minutes: list[datetime], transition: datetime) -> list[datetime]:
    """Return the minutes that no clock shows, because it was put forward at the transition."""
    place = AROUND // MINUTE
    shown_before = minutes[place - 1].replace(tzinfo=None, fold=0)
    shown_after = minutes[place].replace(tzinfo=None, fold=0)
    assert minutes[place].astimezone(UTC) == transition
    count = (shown_after - shown_before) // MINUTE - 1
    return [shown_before + MINUTE * (number + 1) for number in range(count)]


def expected_fires(kind: Kind, dst: str, minutes: list[datetime], skipped: list[datetime]) -> list[datetime]:
    """Return the fires among `minutes`, as the written rule has them."""
    transition = minutes[AROUND // MINUTE].astimezone(UTC)
    fires = {
        minute.astimezone(UTC)
        for minute in minutes
        if kind.matches(minute) and (kind.elapsed or dst == "both" or minute.fold == 0)
    }
    if not kind.elapsed and dst != "skip" and any(kind.matches(minute) for minute in skipped):
        fires.add(transition)
    return sorted(fires)


def kinds(transition_shown: datetime) -> list[Kind]:
    """Return one expression of each kind; those with fixed fields are about the very hour and day of a transition."""
    shown = transition_shown
    hours = [(shown.hour + number) % 24 for number in (-1, 0, 1)]
    before, hour, after = hours
    weekday = shown.isoweekday() % 7
    names = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
    tomorrow = (shown + timedelta(days=1)).day
    return [
        Kind("* * * * *", lambda _: True, elapsed=True),
        Kind("0 * * * *", lambda m: m.minute == 0, elapsed=True),
        Kind("*/30 * * * *", lambda m: m.minute % 30 == 0, elapsed=True),
        Kind("15 */2 * * *", lambda m: m.minute == 15 and m.hour % 2 == 0, elapsed=True),
        Kind("20 1-23/2 * * *", lambda m: m.minute == 20 and m.hour % 2 == 1, elapsed=True),
        Kind("@hourly", lambda m: m.minute == 0, elapsed=True),
        Kind("@daily", lambda m: m.minute == m.hour == 0, elapsed=False),
        Kind(f"30 {before} * * *", lambda m: (m.hour, m.minute) == (before, 30), elapsed=False),
        Kind(f"0 {hour} * * *", lambda m: (m.hour, m.minute) == (hour, 0), elapsed=False),
        Kind(f"0 30 {hour} * * *", lambda m: (m.hour, m.minute) == (hour, 30), elapsed=False),
        Kind(f"59 {after} * * *", lambda m: (m.hour, m.minute) == (after, 59), elapsed=False),
        Kind(f"*/20 {before},{hour} * * *", lambda m: m.hour in (before, hour) and m.minute % 20 == 0, elapsed=False),
        Kind(f"5 {before}-{after} * * *", lambda m: m.hour in hours and m.minute == 5, elapsed=False),
        Kind(f"* {hour} * * *", lambda m: m.hour == hour, elapsed=False),
        Kind(f"10 {hour} {shown.day} * *", lambda m: (m.day, m.hour, m.minute) == (shown.day, hour, 10), elapsed=False),
        Kind(
            f"40 {before} * {shown.month} {names[weekday]}",
            lambda m: (m.month, m.isoweekday() % 7, m.hour, m.minute) == (shown.month, weekday, before, 40),
            elapsed=False,
        ),
        Kind(
            f"7 {hour} {tomorrow} * {weekday or 7}",
            lambda m: (m.hour, m.minute) == (hour, 7) and (m.day == tomorrow or m.isoweekday() % 7 == weekday),
            elapsed=False,
        ),
    ]
