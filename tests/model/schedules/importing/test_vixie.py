"""Entries of a crontab fire here when cron would run them, by a reading of cron's own that is written anew."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice

from hypothesis import given, settings
from hypothesis import strategies as st

from ayb_jobs.model.schedules.cron import fires
from ayb_jobs.model.schedules.importing.crontab import read_crontab

BOUNDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
NAMES = {
    3: ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    4: ["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
}
START = datetime(2027, 1, 1, tzinfo=UTC)
YEAR = 366


@st.composite
def numbers(draw: st.DrawFn, place: int, low: int) -> tuple[str, int]:
    value = draw(st.integers(low, BOUNDS[place][1]))
    named = dict(enumerate(NAMES.get(place, []), start=BOUNDS[place][0]))
    written = [str(value), f"{value:02d}", *([named[value], named[value].upper()] if value in named else [])]
    return draw(st.sampled_from(written)), value


@st.composite
def parts(draw: st.DrawFn, place: int) -> tuple[str, set[int]]:
    low, high = BOUNDS[place]
    text, first, last = "*", low, high
    kind = draw(st.sampled_from(["star", "number", "range"]))
    if kind != "star":
        text, first = draw(numbers(place, low))
        last = first
    if kind == "range":
        end, last = draw(numbers(place, first))
        text = f"{text}-{end}"
    step = draw(st.integers(1, high + 3)) if kind != "number" and draw(st.booleans()) else 1
    return f"{text}/{step}" if step > 1 else text, set(range(first, last + 1, step))


@st.composite
def fields(draw: st.DrawFn, place: int) -> tuple[str, set[int]]:
    drawn = draw(st.lists(parts(place), min_size=1, max_size=3))
    return ",".join(text for text, _ in drawn), set().union(*(values for _, values in drawn))


@settings(max_examples=200, deadline=None)
@given(st.tuples(*(fields(place) for place in range(5))))
def test_an_entry_fires_when_cron_would_run_it(drawn: tuple[tuple[str, set[int]], ...]) -> None:
    line = " ".join(text for text, _ in drawn)
    wanted = list(islice(runs(drawn), 20))
    [entry] = read_crontab(f"{line} command", timezone="UTC")
    if entry.schedule is None:
        assert wanted == []
        return
    got = islice(fires(entry.schedule.cron, "UTC", START - timedelta(seconds=1)), len(wanted))
    assert list(got) == wanted


@settings(max_examples=100, deadline=None)
@given(fields(4))
def test_a_day_of_the_week_is_the_one_that_cron_means(weekday: tuple[str, set[int]]) -> None:
    drawn = (("0", {0}), ("0", {0}), ("*", set(range(1, 32))), ("*", set(range(1, 13))), weekday)
    [entry] = read_crontab(f"0 0 * * {weekday[0]} command", timezone="UTC")
    assert entry.schedule is not None
    assert list(islice(fires(entry.schedule.cron, "UTC", START - timedelta(seconds=1)), 7)) == list(
        islice(runs(drawn), 7)
    )


def runs(drawn: tuple[tuple[str, set[int]], ...]) -> Iterator[datetime]:
    """Yield the minutes of a year in which cron runs an entry: both days if one begins with a star, else either."""
    (_, minutes), (_, hours), (day_text, days), (_, months), (weekday_text, weekdays) = drawn
    both = day_text.startswith("*") or weekday_text.startswith("*")
    for date in (START + timedelta(days=number) for number in range(YEAR)):
        by_day, by_weekday = date.day in days, bool({date.isoweekday(), date.isoweekday() % 7} & weekdays)
        if date.month in months and ((by_day and by_weekday) if both else (by_day or by_weekday)):
            yield from (
                date + timedelta(hours=hour, minutes=minute) for hour in sorted(hours) for minute in sorted(minutes)
            )
