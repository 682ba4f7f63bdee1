"""Lint looks at each schedule, and reckons a timing that several have once."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from ayb_jobs.model.schedules import lint
from ayb_jobs.model.schedules.lint import examine, examine_all
from ayb_jobs.model.schedules.schedule import Schedule

NOW = datetime(2026, 7, 29, 12, tzinfo=UTC)


ONE = Schedule(
    id="", name="", job_type="t", payload_text="{}", cron="@daily", timezone="UTC", enabled=True, max_attempts=1,
    queue="default", priority=2, catchup="latest", catchup_max=100, catchup_window_s=86400.0, overlap="allow",
    dst="once", jitter_s=0.0, timeout_s=None, expect_success_within_s=None, ping_url=None, origin="operator",
    state="enabled", next_run_at=None, last_run_at=None, last_fire_at=None, last_error=None, created_at=NOW,
    updated_at=NOW,
)  # fmt: skip


def schedule(name: str, cron: str, **fields: Any) -> Schedule:
    return replace(ONE, name=name, cron=cron, **fields)


def test_a_timing_that_many_have_is_reckoned_once_and_told_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    reckoned: list[str] = []
    timing = lint._timing

    def counted(one: Schedule, now: datetime) -> object:
        reckoned.append(one.cron)
        return timing(one, now)

    monkeypatch.setattr(lint, "_timing", counted)
    many = [schedule(f"n{number}", "*/7 * * * *") for number in range(5)]
    many += [schedule("hasty", "0 9 * * *", expect_success_within_s=60.0), schedule("calm", "0 9 * * *")]
    many += [schedule("broken", "61 * * * *"), schedule("zone", "*/7 * * * *", timezone="Europe/Berlin")]
    many += [schedule(f"every{hour}", "@every 90m", next_run_at=NOW.replace(hour=hour)) for hour in (13, 14)]
    found = examine_all(many, NOW)
    assert sorted(reckoned) == sorted(
        ["*/7 * * * *", "*/7 * * * *", "0 9 * * *", "61 * * * *", "@every 90m", "@every 90m"]
    )
    assert found == [finding for each in many for finding in examine(each, NOW)]
    assert {finding.schedule for finding in found} == {
        *(f"n{number}" for number in range(5)),
        "hasty",
        "broken",
        "zone",
    }
