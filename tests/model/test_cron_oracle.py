"""Fires around every change of clocks, held against a brute-force oracle.

What always runs is one zone of each set of zones whose clocks change alike, in two years.
`AYB_JOBS_ORACLE=all pytest tests/model/test_cron_oracle.py` takes every zone and every change from 2020 to 2037.
"""

import os
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from zoneinfo import ZoneInfo, available_timezones

import pytest

from ayb_jobs.model.cron import fires
from tests.model.cron_oracle import AROUND, expected_fires, kinds, minutes_around, skipped_minutes, transitions

WHOLE = os.environ.get("AYB_JOBS_ORACLE") == "all"
YEARS = (2020, 2037) if WHOLE else (2026, 2027)
SHARES = 16 if WHOLE else 1
RULES = ("once", "skip", "both")


def zones() -> list[str]:
    names = sorted(available_timezones() - {"localtime", "posixrules", "Factory"})
    if WHOLE:
        return names
    alike = {tuple(minutes_shown(name)): name for name in names}
    return sorted(alike.values())


def minutes_shown(name: str) -> list[str]:
    zone = ZoneInfo(name)
    return [f"{instant} {instant.astimezone(zone)}" for instant in transitions(zone, *YEARS)]


@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.timeout(3600 if WHOLE else 120)
def test_fires_around_every_change_of_clocks_are_those_of_the_oracle(share: int) -> None:
    checked = 0
    for name in zones()[share::SHARES]:
        zone = ZoneInfo(name)
        for transition in transitions(zone, *YEARS):
            checked += check_transition(name, zone, transition)
    assert checked > 0


def check_transition(name: str, zone: ZoneInfo, transition: datetime) -> int:
    minutes = minutes_around(zone, transition)
    skipped = skipped_minutes(minutes, transition)
    start, end = transition - AROUND, transition + AROUND
    for kind in kinds(minutes[AROUND // timedelta(minutes=1)]):
        for dst in RULES:
            expected = expected_fires(kind, dst, minutes, skipped)
            found = list(takewhile(lambda fire: fire < end, fires(kind.expr, name, start - timedelta(seconds=1), dst)))
            assert found == expected, f"{kind.expr!r} in {name} under {dst} around {transition:%F %H:%M}"
    return 1


def test_the_oracle_sees_both_kinds_of_change() -> None:
    """The oracle itself, on two days that anyone can look up."""
    zone = ZoneInfo("America/New_York")
    spring, autumn = transitions(zone, 2026, 2026)
    assert spring == datetime(2026, 3, 8, 7, tzinfo=UTC)
    assert autumn == datetime(2026, 11, 1, 6, tzinfo=UTC)
    skipped = skipped_minutes(minutes_around(zone, spring), spring)
    assert (skipped[0], skipped[-1]) == (datetime(2026, 3, 8, 2, 0), datetime(2026, 3, 8, 2, 59))  # noqa: DTZ001
    assert skipped_minutes(minutes_around(zone, autumn), autumn) == []
