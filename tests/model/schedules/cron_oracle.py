"""What a schedule's fires ought to be, found by looking at every minute, or every day, of real time.

Nothing here is parsed and nothing is skipped over. An expression comes with a predicate over the fields of a clock; a
minute fires if a clock on the wall, read at that minute, satisfies it. Days come with a predicate over a date.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
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
    days_in_month = [day for day in days_of(shown.date(), shown.date(), whole_months=True) if day.month == shown.month]
    workday = min((day for day in days_in_month if day.weekday() < 5), key=lambda day: abs(day - shown.date()))
    is_last = (shown + timedelta(days=7)).month != shown.month
    nth = f"{weekday}L" if is_last else f"{weekday}#{(shown.day + 6) // 7}"
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
        Kind(
            f"25 {hour} {shown.day}W * * {shown.year}-{shown.year + 1}",
            lambda m: (m.date(), m.hour, m.minute) == (workday, hour, 25),
            elapsed=False,
        ),
        Kind(
            f"0 35 {hour} * {shown.month} {nth} {shown.year}",
            lambda m: (m.date(), m.hour, m.minute) == (shown.date(), hour, 35),
            elapsed=False,
        ),
    ]


@dataclass(frozen=True, slots=True)
class Days:
    """A text that names days, in the day of month or the day of week, and which dates it names."""

    text: str
    names: Callable[[date], bool]


def days_of(first: date, last: date, *, whole_months: bool = False) -> list[date]:
    """Return every date from `first` to `last`, or of their whole months."""
    if whole_months:
        first = first.replace(day=1)
        last = (last.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]


def last_of_month() -> Days:
    """The last day of each month."""
    return Days("L", lambda day: (day + timedelta(days=1)).day == 1)


def workday_nearest(number: int) -> Days:
    """The day from Monday to Friday nearest to a day of the month, within it and at most two days away."""

    def names(day: date) -> bool:
        month = days_of(day, day, whole_months=True)
        near = [each for each in month if each.isoweekday() <= 5 and abs(each.day - number) <= 2]
        return bool(near) and day == min(near, key=lambda each: (abs(each.day - number), each.day))

    return Days(f"{number}W", names)


def plain_day(number: int) -> Days:
    """A day of the month."""
    return Days(str(number), lambda day: day.day == number)


def every_so_many_days(step: int) -> Days:
    """Each so many days, from the first of the month."""
    return Days(f"*/{step}", lambda day: (day.day - 1) % step == 0)


def plain_weekday(number: int) -> Days:
    """A weekday; Sunday is 0 and 7."""
    return Days(str(number), lambda day: day.isoweekday() % 7 == number % 7)


def last_weekday(number: int) -> Days:
    """The last such weekday of each month."""
    return Days(
        f"{number}L",
        lambda day: day.isoweekday() % 7 == number % 7 and (day + timedelta(days=7)).month != day.month,
    )


def nth_weekday(number: int, nth: int) -> Days:
    """The nth such weekday of each month."""

    def names(day: date) -> bool:
        same = [each for each in days_of(day, day, whole_months=True) if each.weekday() == day.weekday()]
        return day.isoweekday() % 7 == number % 7 and len(same) >= nth and same[nth - 1] == day

    return Days(f"{number}#{nth}", names)


def listed(parts: list[Days]) -> Days:
    """A list, of which each part names its days."""
    return Days(",".join(part.text for part in parts), lambda day: any(part.names(day) for part in parts))


def expected_days(month_days: Days | None, weekdays: Days | None, years: range | None, dates: list[date]) -> list[date]:
    """Return the dates on which an expression fires; None restricts nothing.

    Of two restrictions either is enough, unless one begins with a star.
    """

    def names(day: date) -> bool:
        found = [each.names(day) for each in (month_days, weekdays) if each is not None]
        both = any(each is not None and each.text.startswith("*") for each in (month_days, weekdays))
        return (years is None or day.year in years) and (not found or all(found) or (any(found) and not both))

    return [day for day in dates if names(day)]
