"""Times are as the clock of their zone shows them, also on days on which the clocks are changed."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ayb_jobs.http.dashboard.clock import Clock
from ayb_jobs.http.dashboard.schedules import _day
from tests.model.schedules.test_lint import ONE

DAYS = [
    ("UTC", "2026-05-01 12:00", 24.0),
    ("Europe/Berlin", "2026-03-29 12:00", 23.0),
    ("Europe/Berlin", "2026-10-25 12:00", 25.0),
    ("Asia/Kathmandu", "2026-05-01 12:00", 24.0),
    ("Australia/Lord_Howe", "2026-04-05 12:00", 24.5),
    ("America/Havana", "2026-03-08 12:00", 23.0),
    ("America/Havana", "2026-11-01 12:00", 25.0),
    ("Pacific/Kiritimati", "2026-05-01 12:00", 24.0),
]


def clock_at(zone: str, local: str) -> Clock:
    clock = Clock(zone=zone, now=datetime(2026, 1, 1, tzinfo=UTC))
    at = clock.read(local, "at")
    assert at is not None
    return replace(clock, now=at)


def test_a_shared_sentence_has_its_instants_in_the_zone_that_was_chosen_and_its_texts_escaped() -> None:
    clock = clock_at("Asia/Kathmandu", "2026-05-01 12:00")
    assert clock.told("it is due only at 2026-05-01T10:00:00.5Z: <b> 2026-13-45T99:99:99Z") == (
        'it is due only at <time datetime="2026-05-01T10:00:00.5Z" title="2026-05-01 10:00:00 UTC">'
        "Fri 1 May 15:45 +0545</time>: &lt;b&gt; 2026-13-45T99:99:99Z"
    )


@pytest.mark.parametrize(("zone", "local", "hours"), DAYS)
def test_a_day_lasts_from_midnight_to_midnight_of_its_zone(zone: str, local: str, hours: float) -> None:
    clock = clock_at(zone, local)
    start, end = clock.midnight(), clock.midnight(days=1)
    assert end - start == timedelta(hours=hours)
    a_second = timedelta(seconds=1)
    assert clock.local(start).date() == clock.local(clock.now).date() == clock.local(end - a_second).date()
    assert clock.local(start - a_second).date() < clock.local(clock.now).date() < clock.local(end).date()


@pytest.mark.parametrize(("zone", "local", "hours"), DAYS)
def test_fires_and_the_present_stand_at_the_hours_that_the_axis_names(zone: str, local: str, hours: float) -> None:
    clock = clock_at(zone, local)
    made = [
        replace(ONE, id=str(hour), name=f"at {hour}", cron=f"30 {hour} * * *", timezone=zone, dst="once")
        for hour in (6, 12, 18, 23)
    ]
    drawn = _day(made, {}, clock)
    places = [re.findall(r'class="f-(?:good|run)" x="([\d.]+)"', lane["svg"]) for lane in drawn["lanes"]]
    assert places == [["390"], ["750"], ["1110"], ["1410"]]
    assert all('class="now" d="M720 0' in lane["svg"] for lane in drawn["lanes"])
    assert ("of it" in drawn["today"]) is (hours != 24.0)


def test_an_hour_that_comes_twice_is_drawn_once_and_what_is_an_hour_apart_fires_not_together() -> None:
    clock = clock_at("Europe/Berlin", "2026-10-25 12:00")
    at_half_past_two = ["30 0 * * *", "30 0 * * *", "30 1 * * *"]  # 02:30 in summer, and 02:30 in winter
    made = [replace(ONE, id=str(n), name=str(n), cron=cron) for n, cron in enumerate(at_half_past_two)]
    drawn = _day(made, {}, clock)
    assert all('x="150"' in lane["svg"] for lane in drawn["lanes"])
    assert drawn["gatherings"] == []
    assert not any("f-band" in lane["svg"] for lane in drawn["lanes"])
    assert drawn["today"].endswith("; 1 h of it comes twice, drawn one over the other")
