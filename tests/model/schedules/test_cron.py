"""Cron expressions: what they mean, which are refused, and what holds for all of them."""

import time
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from itertools import islice, pairwise, takewhile
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ayb_jobs.errors import InvalidInput
from ayb_jobs.model.schedules.cron import (
    Effect,
    Ended,
    check_cron,
    clock_effect,
    fires,
    next_fire,
    next_fire_beside,
    parse_duration,
    read_cron,
)
from ayb_jobs.model.schedules.fields import Dst
from ayb_jobs.model.schedules.zones import find_zone
from tests.model.schedules import cron_oracle

START = datetime(2027, 1, 1, 0, 0, 0, tzinfo=UTC)  # a Friday


def first(expr: str, count: int = 3, timezone: str = "UTC", after: datetime = START) -> list[str]:
    found = islice(fires(expr, timezone, after), count)
    return [fire.astimezone(ZoneInfo(timezone)).strftime("%a %d %b %H:%M:%S") for fire in found]


@pytest.mark.parametrize(
    ("expr", "expected"),
    [
        ("* * * * *", ["Fri 01 Jan 00:01:00", "Fri 01 Jan 00:02:00", "Fri 01 Jan 00:03:00"]),
        ("* * * * * *", ["Fri 01 Jan 00:00:01", "Fri 01 Jan 00:00:02", "Fri 01 Jan 00:00:03"]),
        ("30 0 0 * * *", ["Fri 01 Jan 00:00:30", "Sat 02 Jan 00:00:30", "Sun 03 Jan 00:00:30"]),
        ("0 30 * * * *", ["Fri 01 Jan 00:30:00", "Fri 01 Jan 01:30:00", "Fri 01 Jan 02:30:00"]),
        ("*/20 * * * * *", ["Fri 01 Jan 00:00:20", "Fri 01 Jan 00:00:40", "Fri 01 Jan 00:01:00"]),
        ("5-7 12 * * *", ["Fri 01 Jan 12:05:00", "Fri 01 Jan 12:06:00", "Fri 01 Jan 12:07:00"]),
        ("10-50/20 12 * * *", ["Fri 01 Jan 12:10:00", "Fri 01 Jan 12:30:00", "Fri 01 Jan 12:50:00"]),
        ("7/25 12 * * *", ["Fri 01 Jan 12:07:00", "Fri 01 Jan 12:32:00", "Fri 01 Jan 12:57:00"]),
        ("3,1,2 12 * * *", ["Fri 01 Jan 12:01:00", "Fri 01 Jan 12:02:00", "Fri 01 Jan 12:03:00"]),
        ("5-5 12 * * *", ["Fri 01 Jan 12:05:00", "Sat 02 Jan 12:05:00", "Sun 03 Jan 12:05:00"]),
        ("0 22-1 * * *", ["Fri 01 Jan 01:00:00", "Fri 01 Jan 22:00:00", "Fri 01 Jan 23:00:00"]),
        ("0 0 * * 0", ["Sun 03 Jan 00:00:00", "Sun 10 Jan 00:00:00", "Sun 17 Jan 00:00:00"]),
        ("0 0 * * 7", ["Sun 03 Jan 00:00:00", "Sun 10 Jan 00:00:00", "Sun 17 Jan 00:00:00"]),
        ("0 0 * * 7-1", ["Sun 03 Jan 00:00:00", "Mon 04 Jan 00:00:00", "Sun 10 Jan 00:00:00"]),
        ("0 0 * * 5-7", ["Sat 02 Jan 00:00:00", "Sun 03 Jan 00:00:00", "Fri 08 Jan 00:00:00"]),
        ("0 0 * * 7-7", ["Sun 03 Jan 00:00:00", "Sun 10 Jan 00:00:00", "Sun 17 Jan 00:00:00"]),
        ("0 0 * * 00-07", ["Sat 02 Jan 00:00:00", "Sun 03 Jan 00:00:00", "Mon 04 Jan 00:00:00"]),
        ("0 0 * * 0-7", ["Sat 02 Jan 00:00:00", "Sun 03 Jan 00:00:00", "Mon 04 Jan 00:00:00"]),
        ("0 0 * * SAT-SUN", ["Sat 02 Jan 00:00:00", "Sun 03 Jan 00:00:00", "Sat 09 Jan 00:00:00"]),
        ("0 0 1 feb,APR *", ["Mon 01 Feb 00:00:00", "Thu 01 Apr 00:00:00", "Tue 01 Feb 00:00:00"]),
        ("0 0 13 * 5", ["Fri 08 Jan 00:00:00", "Wed 13 Jan 00:00:00", "Fri 15 Jan 00:00:00"]),
        ("0 0 1-31 * 1", ["Mon 04 Jan 00:00:00", "Mon 11 Jan 00:00:00", "Mon 18 Jan 00:00:00"]),
        ("0 0 13 * 0-6", ["Wed 13 Jan 00:00:00", "Sat 13 Feb 00:00:00", "Sat 13 Mar 00:00:00"]),
        ("0 0 ? * 1", ["Mon 04 Jan 00:00:00", "Mon 11 Jan 00:00:00", "Mon 18 Jan 00:00:00"]),
        ("0 0 L * *", ["Sun 31 Jan 00:00:00", "Sun 28 Feb 00:00:00", "Wed 31 Mar 00:00:00"]),
        ("0 0 15,L * *", ["Fri 15 Jan 00:00:00", "Sun 31 Jan 00:00:00", "Mon 15 Feb 00:00:00"]),
        ("0 0 * * fri#2", ["Fri 08 Jan 00:00:00", "Fri 12 Feb 00:00:00", "Fri 12 Mar 00:00:00"]),
        ("0 0 * * L5", ["Fri 29 Jan 00:00:00", "Fri 26 Feb 00:00:00", "Fri 26 Mar 00:00:00"]),
        ("0 0 29 2 *", ["Tue 29 Feb 00:00:00", "Sun 29 Feb 00:00:00", "Fri 29 Feb 00:00:00"]),
        ("@hourly", ["Fri 01 Jan 01:00:00", "Fri 01 Jan 02:00:00", "Fri 01 Jan 03:00:00"]),
        ("@daily", ["Sat 02 Jan 00:00:00", "Sun 03 Jan 00:00:00", "Mon 04 Jan 00:00:00"]),
        ("@midnight", ["Sat 02 Jan 00:00:00", "Sun 03 Jan 00:00:00", "Mon 04 Jan 00:00:00"]),
        ("@weekly", ["Sun 03 Jan 00:00:00", "Sun 10 Jan 00:00:00", "Sun 17 Jan 00:00:00"]),
        ("@monthly", ["Mon 01 Feb 00:00:00", "Mon 01 Mar 00:00:00", "Thu 01 Apr 00:00:00"]),
        ("@yearly", ["Sat 01 Jan 00:00:00", "Mon 01 Jan 00:00:00", "Sat 01 Jan 00:00:00"][:2]),
        ("@5minutes", ["Fri 01 Jan 00:05:00", "Fri 01 Jan 00:10:00", "Fri 01 Jan 00:15:00"]),
        ("@10minutes", ["Fri 01 Jan 00:10:00", "Fri 01 Jan 00:20:00", "Fri 01 Jan 00:30:00"]),
        ("@15Minutes", ["Fri 01 Jan 00:15:00", "Fri 01 Jan 00:30:00", "Fri 01 Jan 00:45:00"]),
        ("@30minutes", ["Fri 01 Jan 00:30:00", "Fri 01 Jan 01:00:00", "Fri 01 Jan 01:30:00"]),
        ("@always", ["Fri 01 Jan 00:01:00", "Fri 01 Jan 00:02:00", "Fri 01 Jan 00:03:00"]),
        ("@everysecond", ["Fri 01 Jan 00:00:01", "Fri 01 Jan 00:00:02", "Fri 01 Jan 00:00:03"]),
        ("0 0 15W * *", ["Fri 15 Jan 00:00:00", "Mon 15 Feb 00:00:00", "Mon 15 Mar 00:00:00"]),
        ("0 0 1w 5 *", ["Mon 03 May 00:00:00", "Mon 01 May 00:00:00"]),
        ("0 0 31W 1 *", ["Fri 29 Jan 00:00:00", "Mon 31 Jan 00:00:00"]),
        ("0 0 * * 5L", ["Fri 29 Jan 00:00:00", "Fri 26 Feb 00:00:00", "Fri 26 Mar 00:00:00"]),
        ("0 0 * * friL", ["Fri 29 Jan 00:00:00", "Fri 26 Feb 00:00:00", "Fri 26 Mar 00:00:00"]),
        ("0 0 * * 7L", ["Sun 31 Jan 00:00:00", "Sun 28 Feb 00:00:00", "Sun 28 Mar 00:00:00"]),
        ("0 0 L * 0", ["Sun 03 Jan 00:00:00", "Sun 10 Jan 00:00:00", "Sun 17 Jan 00:00:00"]),
        ("0 0 1 * 5#2", ["Fri 08 Jan 00:00:00", "Mon 01 Feb 00:00:00", "Fri 12 Feb 00:00:00"]),
        ("0 0 * * 1,5#2", ["Mon 04 Jan 00:00:00", "Fri 08 Jan 00:00:00", "Mon 11 Jan 00:00:00"]),
        ("0 0 */2 * 1", ["Mon 11 Jan 00:00:00", "Mon 25 Jan 00:00:00", "Mon 01 Feb 00:00:00"]),
        ("0 0 0/10 * *", ["Sun 10 Jan 00:00:00", "Wed 20 Jan 00:00:00", "Sat 30 Jan 00:00:00"]),
        ("0 0 1 1 * 2030", ["Tue 01 Jan 00:00:00"]),
        ("0 0 1 1 * 2030-2032", ["Tue 01 Jan 00:00:00", "Wed 01 Jan 00:00:00", "Thu 01 Jan 00:00:00"]),
        ("5 0 0 1 1 * 2028,2031", ["Sat 01 Jan 00:00:05", "Wed 01 Jan 00:00:05"]),
        ("0 0 0 29 2 * */2", ["Tue 29 Feb 00:00:00", "Sun 29 Feb 00:00:00", "Fri 29 Feb 00:00:00"]),
        ("* * * * * * *", ["Fri 01 Jan 00:00:01", "Fri 01 Jan 00:00:02", "Fri 01 Jan 00:00:03"]),
        ("? ? ? ? ? ?", ["Fri 01 Jan 00:00:01", "Fri 01 Jan 00:00:02", "Fri 01 Jan 00:00:03"]),
        ("@every 90s", ["Fri 01 Jan 00:01:30", "Fri 01 Jan 00:03:00", "Fri 01 Jan 00:04:30"]),
        ("@every 1h30m", ["Fri 01 Jan 01:30:00", "Fri 01 Jan 03:00:00", "Fri 01 Jan 04:30:00"]),
    ],
)
def test_an_expression_means_what_cron_says(expr: str, expected: list[str]) -> None:
    assert first(expr, len(expected)) == expected


@pytest.mark.parametrize(
    ("expr", "hint"),
    [
        ("", "0 fields"),
        ("* * * *", "4 fields"),
        ("* * * * * * * *", "8 fields"),
        ("* * * * * * 2032-2030", "ends before"),
        ("* * * * * 12345", "1 to 9999"),
        ("0 0 1 1 * 2019-2020 *", "day of week"),
        ("60 * * * *", "0 to 59"),
        ("* 24 * * *", "0 to 23"),
        ("* * 0 * *", "1 to 31"),
        ("* * * 13 *", "1 to 12"),
        ("* * * * 8", "7 for Sunday"),
        ("* * * * monday", "sun to sat"),
        ("*/0 * * * *", "minute"),
        ("1-2-3 * * * *", "minute"),
        ("1, * * * *", "minute"),
        ("-1 * * * *", "minute"),
        ("1_0 * * * *", "minute"),
        ("١ * * * *", "minute"),
        ("R * * * *", "minute"),
        ("H * * * *", "minute"),
        ("0 0 32W * *", "day of month"),
        ("0 0 W * *", "day of month"),
        ("0 0 * * 4W", "day of week"),
        ("0 0 * * L", "day of week"),
        ("0 0 * * 5#6", "day of week"),
        ("0 0 L-3 * *", "day of month"),
        ("0 0 ?/2 * *", "day of month"),
        ("0 0 */30 * 5#3", "five years"),
        ("@reboot", "@hourly"),
        ("@every", "90s"),
        ("@every 0s", "1s"),
        ("@every 400d", "366d"),
        ("@every -5s", "90s"),
        ("0 0 30 2 *", "five years"),
        ("0 0 31 4,6,9,11 *", "five years"),
        ("*" * 101, "at most 100"),
        ("* " * 500_000, "at most 100"),
    ],
)
def test_what_is_no_expression_is_refused_with_a_hint(expr: str, hint: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        check_cron(expr, "UTC")
    assert refusal.value.field == "cron"
    assert hint in str(refusal.value)


@pytest.mark.parametrize(
    "timezone", ["", "Mars/Olympus", "/etc/passwd", "../UTC", "UTC\x00", "x" * 51, "UTC ", "America"]
)
def test_what_is_no_time_zone_is_refused(timezone: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        check_cron("* * * * *", timezone)
    assert refusal.value.field == "timezone"


def test_a_misspelt_time_zone_is_refused_with_a_suggestion() -> None:
    with pytest.raises(InvalidInput, match="Europe/Berlin"):
        check_cron("* * * * *", "Europe/Berln")


def test_a_huge_expression_is_refused_before_it_is_parsed() -> None:
    began = time.perf_counter()
    with pytest.raises(InvalidInput):
        check_cron("*/1," * 1_000_000, "UTC")
    assert time.perf_counter() - began < 0.5  # parsing it takes many seconds


@pytest.mark.parametrize("expr", ["0 0 29 2 *", "0 0 29 feb *", "0 0 L 2 *", "0 0 31 * *"])
def test_a_rare_date_is_no_impossible_one(expr: str) -> None:
    check_cron(expr, "Asia/Kathmandu")


def test_a_date_that_comes_round_too_late_is_refused() -> None:
    """2100 is no leap year, so that after February 2096 the next 29th is eight years away."""
    with pytest.raises(InvalidInput, match="five years"):
        check_cron("0 0 29 2 *", "UTC", datetime(2096, 3, 1, tzinfo=UTC))


def test_a_year_far_ahead_is_read_but_not_written_anew() -> None:
    read_cron("0 0 1 1 * 2099", "UTC")
    assert next_fire("0 0 1 1 * 2099", NEW_YORK, START) == datetime(2099, 1, 1, 5, tzinfo=UTC)
    assert next_fire("0 0 1 1 * 9999", NEW_YORK, START) == datetime(9999, 1, 1, 5, tzinfo=UTC)
    with pytest.raises(InvalidInput, match="next fire is on 2099-01-01"):
        check_cron("0 0 1 1 * 2099", "UTC", START)
    check_cron("0 0 1 1 * 2031", "UTC", START)


def test_a_year_gone_by_has_ended_and_is_not_written_anew() -> None:
    read_cron("* * * * * 2018", "UTC")
    with pytest.raises(Ended):
        next_fire("* * * * * 2018", "UTC", START)
    with pytest.raises(InvalidInput, match="five years"):
        check_cron("* * * * * 2018", "UTC", START)


@pytest.mark.parametrize("expr", ["* * * * * * 2098", "0 0 29 2 * 2096", "* * * * * 2018"])
def test_a_year_however_far_is_found_at_once(expr: str) -> None:
    read_cron(expr, NEW_YORK)
    next_fire("0 0 1 1 *", NEW_YORK, datetime(2098, 1, 1, tzinfo=UTC))  # the zone's data is read once
    began = time.perf_counter()
    for _ in range(10):
        with suppress(Ended):
            next_fire(expr, NEW_YORK, START)
    assert time.perf_counter() - began < 1


def test_the_zone_local_is_that_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    find_zone.cache_clear()
    try:
        assert next_fire("0 9 * * *", "Local", START) == datetime(2027, 1, 1, 3, 15, tzinfo=UTC)
        check_cron("0 9 * * *", "Local", START)
    finally:
        find_zone.cache_clear()


def test_a_row_without_a_zone_is_in_utc_and_nobody_writes_one() -> None:
    assert next_fire("0 9 * * *", "", START) == datetime(2027, 1, 1, 9, tzinfo=UTC)
    with pytest.raises(InvalidInput, match="empty"):
        check_cron("0 9 * * *", "", START)


month_days = st.one_of(
    st.just(cron_oracle.last_of_month()),
    st.integers(1, 31).map(cron_oracle.workday_nearest),
    st.integers(1, 31).map(cron_oracle.plain_day),
)
weekdays = st.one_of(
    st.integers(0, 7).map(cron_oracle.plain_weekday),
    st.integers(0, 7).map(cron_oracle.last_weekday),
    st.tuples(st.integers(0, 7), st.integers(1, 5)).map(lambda pair: cron_oracle.nth_weekday(*pair)),
)
month_day_fields = st.one_of(
    st.none(),
    st.lists(month_days, min_size=1, max_size=3).map(cron_oracle.listed),
    st.integers(2, 9).map(cron_oracle.every_so_many_days),
)
weekday_fields = st.one_of(st.none(), st.lists(weekdays, min_size=1, max_size=3).map(cron_oracle.listed))
year_fields = st.one_of(
    st.none(),
    st.tuples(st.integers(2027, 2030), st.integers(0, 3)).map(lambda pair: range(pair[0], pair[0] + pair[1] + 1)),
)


@pytest.mark.outer
@settings(max_examples=40, deadline=None)
@given(month_day_fields, weekday_fields, year_fields)
def test_days_and_years_are_those_of_the_oracle(
    month_day: cron_oracle.Days | None, weekday: cron_oracle.Days | None, years: range | None
) -> None:
    """Every day of four years, looked at one by one."""
    fields = ["0", "12", month_day.text if month_day else "*", "*", weekday.text if weekday else "*"]
    if years is not None:
        fields.append(f"{years[0]}-{years[-1]}")
    expr = " ".join(fields)
    dates = cron_oracle.days_of(date(2027, 1, 1), date(2030, 12, 31))
    expected = cron_oracle.expected_days(month_day, weekday, years, dates)
    found: list[date] = []
    with suppress(InvalidInput):
        found.extend(fire.date() for fire in takewhile(lambda fire: fire.year < 2031, fires(expr, "UTC", START)))
    assert found == expected


NEW_YORK = "America/New_York"
BEFORE_SPRING = datetime(2027, 3, 13, 18, tzinfo=UTC)
BEFORE_AUTUMN = datetime(2027, 11, 6, 18, tzinfo=UTC)


@pytest.mark.parametrize(
    ("dst", "spring", "autumn"),
    [
        ("once", ["14 03:00 EDT", "15 02:30 EDT"], ["07 01:30 EDT", "08 01:30 EST"]),
        ("skip", ["15 02:30 EDT", "16 02:30 EDT"], ["07 01:30 EDT", "08 01:30 EST"]),
        ("both", ["14 03:00 EDT", "15 02:30 EDT"], ["07 01:30 EDT", "07 01:30 EST"]),
    ],
)
def test_the_rule_for_fixed_hours_is_selectable(dst: str, spring: list[str], autumn: list[str]) -> None:
    def shown(expr: str, after: datetime) -> list[str]:
        found = islice(fires(expr, NEW_YORK, after, dst), 2)
        return [fire.astimezone(ZoneInfo(NEW_YORK)).strftime("%d %H:%M %Z") for fire in found]

    assert shown("30 2 * * *", BEFORE_SPRING) == spring
    assert shown("30 1 * * *", BEFORE_AUTUMN) == autumn


def test_the_last_fire_of_all_is_repeated_with_its_hour() -> None:
    last = fires("30 1 7 11 * 2027", NEW_YORK, START, "both")
    assert [next(last), next(last)] == [datetime(2027, 11, 7, hour, 30, tzinfo=UTC) for hour in (5, 6)]
    with pytest.raises(Ended):
        next(last)


def test_a_time_that_clocks_skip_whenever_it_comes_round_has_no_fire() -> None:
    began = time.perf_counter()
    with pytest.raises(Ended):
        next_fire("35 3 * 9 0L", "Pacific/Chatham", START, "skip")
    assert time.perf_counter() - began < 5


def test_a_wildcard_hour_follows_real_time_through_both_changes() -> None:
    for after in (BEFORE_SPRING, BEFORE_AUTUMN):
        found = list(islice(fires("0 * * * *", NEW_YORK, after), 30))
        assert {later - earlier for earlier, later in pairwise(found)} == {timedelta(hours=1)}


def test_the_second_round_of_a_repeated_hour_is_passed_over_at_once() -> None:
    inside = datetime(2027, 11, 7, 6, 15, tzinfo=UTC)  # 01:15 for the second time
    assert next_fire("* * 1 * * *", NEW_YORK, inside) == datetime(2027, 11, 8, 6, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("expr", "after", "effects"),
    [
        ("30 2 * * *", BEFORE_SPRING, [Effect.MOVED, None]),
        ("0 2,3 * * *", BEFORE_SPRING, [Effect.MOVED, None]),
        ("0 3 * * *", BEFORE_SPRING, [None, None]),
        ("30 1 * * *", BEFORE_AUTUMN, [Effect.REPEATED, None]),
        ("30 * * * *", datetime(2027, 11, 7, 5, tzinfo=UTC), [Effect.REPEATED, Effect.REPEAT, None]),
        ("@every 1h", datetime(2027, 11, 7, 5, tzinfo=UTC), [None, None]),
    ],
)
def test_the_effect_of_a_change_of_clocks_is_named(expr: str, after: datetime, effects: list[Effect | None]) -> None:
    found = islice(fires(expr, NEW_YORK, after), len(effects))
    assert [clock_effect(expr, NEW_YORK, fire) for fire in found] == effects


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("15m", 900), ("1h30m", 5400), ("2d", 172_800)])
def test_a_duration_is_read(text: str, seconds: int) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "90", "s", "1.5h", "1h ", "1w", "-1s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_duration(text, "every")


def fields(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    return st.one_of(
        st.just("*"),
        number.map(str),
        st.tuples(number, number).map(lambda pair: f"{pair[0]}-{pair[1]}"),
        st.integers(1, high).map(lambda step: f"*/{step}"),
        st.tuples(number, number, st.integers(1, 30)).map(lambda three: f"{three[0]}-{three[1]}/{three[2]}"),
        st.lists(number, min_size=1, max_size=4).map(lambda numbers: ",".join(map(str, numbers))),
    )


expressions = st.one_of(
    st.tuples(fields(0, 59), fields(0, 23), fields(1, 31), fields(1, 12), fields(0, 7)).map(" ".join),
    st.tuples(fields(0, 59), fields(0, 59), fields(0, 23), fields(1, 31), fields(1, 12), fields(0, 7)).map(" ".join),
    st.integers(1, 200_000).map(lambda seconds: f"@every {seconds}s"),
)
zones = st.sampled_from(
    ["UTC", NEW_YORK, "Europe/Berlin", "Australia/Lord_Howe", "Africa/Casablanca", "Asia/Kathmandu", "Pacific/Apia"]
)
instants = st.datetimes(datetime(2020, 1, 1), datetime(2037, 1, 1)).map(lambda at: at.replace(tzinfo=UTC))
rules = st.sampled_from(Dst)


def usable(expr: str) -> bool:
    try:
        check_cron(expr, "UTC")
    except InvalidInput:
        return False
    return True


@settings(max_examples=300, deadline=None)
@given(expressions, zones, instants, rules)
def test_fires_strictly_increase(expr: str, zone: str, after: datetime, dst: Dst) -> None:
    assume(usable(expr))
    found = [after, *islice(fires(expr, zone, after, dst), 20)]
    assert all(earlier < later for earlier, later in pairwise(found))


@settings(max_examples=300, deadline=None)
@given(expressions, zones, instants, rules, st.floats(0, 0.99))
def test_a_fire_does_not_depend_on_when_it_is_asked_for(
    expr: str, zone: str, after: datetime, dst: Dst, share: float
) -> None:
    """Asked at any instant between two fires, the later one is the answer."""
    assume(usable(expr))
    first, earlier, later = islice(fires(expr, zone, after, dst), 3)
    asked_at = earlier + (later - earlier) * share
    assert next_fire_beside(expr, zone, first, asked_at, dst) == later
    assert expr.startswith("@every") or next_fire(expr, zone, asked_at, dst) == later


@settings(max_examples=500, deadline=None)
@given(st.text(max_size=120), st.text(max_size=60))
def test_any_text_is_understood_or_refused_as_bad_input(expr: str, zone: str) -> None:
    for timezone in (zone, "UTC"):
        try:
            check_cron(expr, timezone)
        except InvalidInput as refusal:
            assert refusal.field in ("cron", "timezone")  # noqa: PT017 - it need not be raised
