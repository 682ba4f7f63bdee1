"""What becomes of due fires, decided by pure code."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ayb_jobs.model.schedules.fires import MAX_FIRES, Advance, DueSchedule, Timing, advance, jitter, passed_over

NOON = datetime(2027, 1, 1, 12, 0, tzinfo=UTC)


def due(at: datetime, **values: Any) -> DueSchedule:
    usual: dict[str, Any] = {
        "id": "01a20055-7e1c-7d10-8f2e-2f8d6a3c9b11",
        "name": "s",
        "cron": "* * * * *",
        "timezone": "UTC",
        "dst": "once",
        "due_at": at,
        "last_fire_at": None,
        "catchup": "latest",
        "catchup_max": 100,
        "catchup_window_s": 86400.0,
        "overlap": "allow",
        "jitter_s": 0.0,
        "queued": False,
        "running": False,
    }
    return DueSchedule(**usual | values)


def outcomes(advance: Advance) -> list[str]:
    return [fire.outcome + (f": {fire.reason}" if fire.reason else "") for fire in advance.fires]


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


@pytest.mark.parametrize(
    ("late_s", "expected"),
    [(0, ["enqueued"]), (5, ["enqueued"]), (5.1, ["late"]), (59, ["late"])],
)
@pytest.mark.parametrize("catchup", ["latest", "all", "skip"])
def test_a_fire_that_is_a_little_late_is_made_whatever_the_policy(
    catchup: str, late_s: float, expected: list[str]
) -> None:
    schedule = due(NOON, cron="0 12 * * *", catchup=catchup)
    assert outcomes(advance(schedule, NOON + seconds(late_s))) == expected


@pytest.mark.parametrize(
    ("catchup", "expected"), [("latest", ["caught_up"]), ("all", ["caught_up"]), ("skip", ["skipped: missed"])]
)
def test_a_fire_that_is_over_a_minute_late_was_missed(catchup: str, expected: list[str]) -> None:
    schedule = due(NOON, cron="0 12 * * *", catchup=catchup)
    assert outcomes(advance(schedule, NOON + seconds(61))) == expected


@pytest.mark.parametrize(
    ("catchup", "late_s", "expected"),
    [
        ("latest", 3, {"enqueued": 4}),
        ("latest", 10, {"coalesced": 10, "caught_up": 1}),
        ("all", 10, {"caught_up": 5, "enqueued": 6}),
        ("skip", 10, {"skipped": 5, "enqueued": 6}),
    ],
)
def test_a_stall_of_a_fast_schedule(catchup: str, late_s: float, expected: dict[str, int]) -> None:
    """Within 5 s each second is made up for; beyond, what has a successor was missed."""
    found = advance(due(NOON, cron="* * * * * *", catchup=catchup), NOON + seconds(late_s))
    assert Counter(fire.outcome for fire in found.fires) == expected


def test_latest_makes_the_latest_ones_job() -> None:
    found = advance(due(NOON), NOON + timedelta(hours=3, seconds=30))
    assert [fire.fire_at for fire in found.fires if fire.outcome.makes_job] == [NOON + timedelta(hours=3)]
    assert found.next_at == NOON + timedelta(hours=3, minutes=1)
    assert len(found.fires) == 181


def test_all_takes_the_latest_within_count_and_window() -> None:
    found = advance(due(NOON, catchup="all", catchup_max=5), NOON + timedelta(hours=3, seconds=90))
    made = [fire.fire_at for fire in found.fires if fire.outcome == "caught_up"]
    assert made[-1] == NOON + timedelta(hours=3)
    assert len(made) == 5
    found = advance(due(NOON, catchup="all", catchup_window_s=600), NOON + timedelta(hours=3, seconds=90))
    made = [fire.fire_at for fire in found.fires if fire.outcome == "caught_up"]
    assert min(made) >= NOON + timedelta(hours=3, seconds=90 - 600)
    assert Counter(fire.reason for fire in found.fires)["outside the catch-up window"] == 181 - len(made)


@pytest.mark.outer
@pytest.mark.parametrize("catchup", ["latest", "all", "skip"])
def test_more_than_one_transaction_holds_is_decided_in_parts(catchup: str) -> None:
    schedule = due(NOON, cron="* * * * * *", catchup=catchup, catchup_max=1000)
    now = NOON + seconds(MAX_FIRES * 2.5)
    seen: list[datetime] = []
    made = 0
    while schedule.due_at <= now:
        part = advance(schedule, now)
        assert len(part.fires) <= MAX_FIRES
        seen += [fire.fire_at for fire in part.fires]
        made += sum(fire.outcome == "caught_up" for fire in part.fires)
        assert part.next_at is not None
        schedule = due(part.next_at, cron="* * * * * *", catchup=catchup, catchup_max=1000, last_fire_at=seen[-1])
    assert seen == [NOON + seconds(number) for number in range(int(MAX_FIRES * 2.5) + 1)]
    assert made == {"latest": 1, "all": 1000, "skip": 0}[catchup]


def test_what_is_older_than_a_month_is_left_out() -> None:
    found = advance(due(NOON - timedelta(days=400), cron="0 12 * * *"), NOON)
    assert len(found.fires) == 31
    assert found.fires[-1].fire_at == NOON


def test_a_rare_fire_that_was_missed_for_more_than_a_month_is_made_up_for_all_the_same() -> None:
    new_year = NOON.replace(hour=0)
    found = advance(due(new_year, cron="0 0 1 1 *"), new_year + timedelta(days=100))
    assert [(fire.fire_at, fire.outcome) for fire in found.fires] == [(new_year, "caught_up")]
    assert found.next_at == new_year.replace(year=2028)
    found = advance(due(new_year, cron="* * 1 1 *"), new_year + timedelta(days=100))
    assert outcomes(found) == ["coalesced"] * 1439 + ["caught_up"]


def test_an_interval_keeps_its_distance_over_a_long_outage() -> None:
    found = advance(due(NOON, cron="@every 7h"), NOON + timedelta(days=40, minutes=1))
    assert {(fire.fire_at - NOON) % timedelta(hours=7) for fire in found.fires} == {timedelta(0)}
    assert found.next_at is not None
    assert (found.next_at - NOON) % timedelta(hours=7) == timedelta(0)


@pytest.mark.parametrize("late", [timedelta(0), timedelta(minutes=10), timedelta(days=100)])
def test_the_last_fire_of_a_year_is_made_and_none_is_next(late: timedelta) -> None:
    found = advance(due(NOON, cron="0 12 1 1 * 2027"), NOON + late)
    assert [fire.fire_at for fire in found.fires if fire.outcome.makes_job] == [NOON]
    assert found.next_at is None
    again = advance(due(NOON, cron="0 12 1 1 * 2027", last_fire_at=NOON), NOON + late)
    assert (again.fires, again.next_at) == ([], None)


def test_an_edit_passes_over_the_last_fire_of_all() -> None:
    found = passed_over(Timing("0 12 1 1 * 2027", "UTC", "once"), NOON, None, NOON + timedelta(minutes=2))
    assert [fire.fire_at for fire in found] == [NOON]


def test_nothing_up_to_the_latest_fire_is_decided_again() -> None:
    found = advance(due(NOON, last_fire_at=NOON + timedelta(minutes=2)), NOON + timedelta(minutes=3))
    assert [fire.fire_at for fire in found.fires] == [NOON + timedelta(minutes=3)]


@pytest.mark.parametrize(
    ("overlap", "queued", "running", "expected"),
    [
        ("allow", True, True, ["caught_up"] * 3),
        ("skip", False, False, ["caught_up", *["skipped: an earlier job has not ended"] * 2]),
        ("skip", True, False, ["skipped: an earlier job has not ended"] * 3),
        ("skip", False, True, ["skipped: an earlier job has not ended"] * 3),
        ("queue_one", False, True, ["caught_up", *["skipped: an earlier job is still waiting"] * 2]),
        ("queue_one", True, False, ["skipped: an earlier job is still waiting"] * 3),
        ("cancel_running", True, True, [*["skipped: replaced by a later fire"] * 2, "caught_up"]),
    ],
)
def test_overlap_rules_hold_among_fires_that_are_made_up_for_too(
    overlap: str,
    queued: bool,
    running: bool,
    expected: list[str],
) -> None:
    schedule = due(NOON, cron="0-2 12 * * *", catchup="all", overlap=overlap, queued=queued, running=running)
    found = advance(schedule, NOON + timedelta(minutes=10))
    assert outcomes(found) == expected
    assert found.cancels_running == (overlap == "cancel_running")


def test_a_schedule_whose_fires_are_all_skipped_cancels_nothing() -> None:
    found = advance(due(NOON, catchup="skip", overlap="cancel_running"), NOON + timedelta(minutes=30, seconds=30))
    assert [fire for fire in found.fires if fire.outcome.makes_job] != []
    assert found.cancels_running
    found = advance(due(NOON, cron="0 12 * * *", catchup="skip", overlap="cancel_running"), NOON + timedelta(hours=1))
    assert not found.cancels_running


def test_an_edit_passes_over_what_was_due() -> None:
    found = passed_over(Timing("* * * * *", "UTC", "once"), NOON, None, NOON + timedelta(minutes=2))
    assert [(fire.fire_at, fire.outcome) for fire in found] == [
        (NOON + timedelta(minutes=number), "skipped") for number in range(3)
    ]
    assert passed_over(Timing("* * * * *", "UTC", "once"), NOON, None, NOON - seconds(1)) == []
    assert passed_over(Timing("nonsense", "UTC", "once"), NOON - timedelta(days=40), None, NOON) == []


@given(st.uuids(), st.datetimes(datetime(2020, 1, 1), datetime(2037, 1, 1)), st.floats(0, 86400))
def test_jitter_stays_within_its_bound_and_is_the_same_each_time(schedule: Any, at: datetime, jitter_s: float) -> None:
    fire_at = at.replace(tzinfo=UTC)
    delay = jitter(str(schedule), fire_at, jitter_s)
    assert timedelta(0) <= delay <= seconds(jitter_s)
    assert delay == jitter(str(schedule), fire_at, jitter_s)


def test_jitter_is_spread_over_schedules() -> None:
    delays = [jitter(str(number), NOON, 100).total_seconds() for number in range(1000)]
    quarters = Counter(int(delay // 25) for delay in delays)
    assert set(quarters) == {0, 1, 2, 3}
    assert min(quarters.values()) > 180
