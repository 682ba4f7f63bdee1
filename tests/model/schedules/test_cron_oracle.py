"""Fires around every change of clocks, held against a brute-force oracle.

What always runs is one zone of each set of zones whose clocks change alike in a year. `make test-slow
ARGS=tests/model/schedules/test_cron_oracle.py` takes every zone and every change from 2020 to 2037, in about half an
hour.
"""

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from zoneinfo import ZoneInfo, available_timezones

import pytest

from ayb_jobs.model.schedules.cron import Ended, fires
from tests.model.schedules.cron_oracle import (
    AROUND,
    expected_fires,
    kinds,
    minutes_around,
    skipped_minutes,
    transitions,
)

RULES = ("once", "skip", "both")
SHARES = 16
ZONES = sorted(available_timezones() - {"localtime", "posixrules", "Factory"})


def test_fires_around_changes_of_clocks_are_those_of_the_oracle() -> None:
    alike = {tuple(changes_shown(name, 2026, 2026)): name for name in ZONES}
    assert sum(check_zone(name, 2026, 2026) for name in alike.values()) > 40


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("share", range(SHARES))
def test_fires_around_all_changes_in_all_zones_are_those_of_the_oracle(share: int) -> None:
    assert sum(check_zone(name, 2020, 2037) for name in ZONES[share::SHARES]) > 100


def changes_shown(name: str, first_year: int, last_year: int) -> list[str]:
    zone = ZoneInfo(name)
    return [f"{instant} {instant.astimezone(zone)}" for instant in transitions(zone, first_year, last_year)]


def check_zone(name: str, first_year: int, last_year: int) -> int:
    """Check a zone's changes of clocks, and return how many there are."""
    zone = ZoneInfo(name)
    found = list(transitions(zone, first_year, last_year))
    for transition in found:
        check_transition(name, zone, transition)
    return len(found)


def check_transition(name: str, zone: ZoneInfo, transition: datetime) -> None:
    minutes = minutes_around(zone, transition)
    skipped = skipped_minutes(minutes, transition)
    start, end = transition - AROUND, transition + AROUND
    for kind in kinds(minutes[AROUND // timedelta(minutes=1)]):
        for dst in RULES:
            expected = expected_fires(kind, dst, minutes, skipped)
            found = fires_before(end, fires(kind.expr, name, start - timedelta(seconds=1), dst))
            assert found == expected, f"{kind.expr!r} in {name} under {dst} around {transition:%F %H:%M}"


def fires_before(end: datetime, found: Iterator[datetime]) -> list[datetime]:
    """Return the fires before an instant, of a schedule that may end."""
    before: list[datetime] = []
    with suppress(Ended):
        before.extend(takewhile(lambda fire: fire < end, found))
    return before


def test_the_oracle_sees_both_kinds_of_change() -> None:
    """The oracle itself, on two days that anyone can look up."""
    zone = ZoneInfo("America/New_York")
    spring, autumn = transitions(zone, 2026, 2026)
    assert spring == datetime(2026, 3, 8, 7, tzinfo=UTC)
    assert autumn == datetime(2026, 11, 1, 6, tzinfo=UTC)
    skipped = skipped_minutes(minutes_around(zone, spring), spring)
    assert (skipped[0], skipped[-1]) == (datetime(2026, 3, 8, 2, 0), datetime(2026, 3, 8, 2, 59))
    assert skipped_minutes(minutes_around(zone, autumn), autumn) == []
