"""What a timing will do, as one types it: its next fires, those that a change of clocks moves, and what looks odd."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from ayb_jobs.errors import InvalidInput
from ayb_jobs.http.dashboard.clock import Clock
from ayb_jobs.http.dashboard.shell import Blank
from ayb_jobs.http.dashboard.typing_in import number
from ayb_jobs.model.schedules.cron import Ended, check_cron
from ayb_jobs.model.schedules.lint import examine
from ayb_jobs.model.schedules.preview import foresee
from ayb_jobs.model.schedules.schedule import Schedule
from ayb_jobs.model.schedules.zones import shifts
from ayb_jobs.model.words import as_sentence

NEXT = 6
YEAR = timedelta(days=366)
AROUND = timedelta(hours=4)
MOST_AT_A_CHANGE = 300
MOST_CHANGES = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreseen:
    """A coming fire as it is listed."""

    local: str
    utc: str
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What a timing will do: its next fires, those at changes of clocks, and what looks odd; or what is wrong."""

    next: list[Foreseen]
    changes: list[Foreseen]
    remarks: list[str]
    error: str = ""


def preview_of(typed: Blank, schedule: Schedule | None, clock: Clock) -> Preview:
    """Return what a timing will do."""
    cron, timezone, dst = typed["cron"], typed["timezone"] or "UTC", typed["dst"] or "once"
    try:
        check_cron(cron, timezone)
        beside = schedule.next_run_at if schedule and schedule.cron == cron else None
        ahead = [
            each for each in islice(_until_ended(cron, timezone, clock.now, dst, beside), NEXT * 2) if each.is_fire
        ]
        changes = list(_changes(cron, timezone, dst, clock))
        remarks = [each.message for each in examine(_as_schedule(typed, clock.now), clock.now)]
    except InvalidInput as error:
        return Preview(next=[], changes=[], remarks=[], error=as_sentence(str(error)))
    return Preview(next=[_shown(each, clock) for each in ahead[:NEXT]], changes=changes, remarks=remarks)


def _until_ended(cron: str, timezone: str, after: datetime, dst: str, beside: datetime | None = None) -> Iterator[Any]:
    try:
        yield from foresee(cron, timezone, after, dst, beside=beside)
    except Ended:
        return


def _changes(cron: str, timezone: str, dst: str, clock: Clock) -> Iterator[Foreseen]:
    """Yield the fires of the next year that a change of clocks moves, doubles or leaves out."""
    if cron.startswith("@every"):
        return
    told = 0
    for year in (clock.now.year, clock.now.year + 1):
        for shift in shifts(timezone, year):
            if not clock.now < shift < clock.now + YEAR:
                continue
            for each in islice(_until_ended(cron, timezone, shift - AROUND, dst), MOST_AT_A_CHANGE):
                if each.at > shift + AROUND or told >= MOST_CHANGES:
                    break
                if each.note:
                    told += 1
                    yield _shown(each, clock)


def _shown(each: Any, clock: Clock) -> Foreseen:
    local = each.local
    year = "" if local.year == clock.now.year else f" {local.year}"
    return Foreseen(
        local=f"{local:%a} {local.day} {local:%b}{year} {local:%H:%M:%S} {local:%Z}".replace(":00 ", " "),
        utc=f"{each.at.day} {each.at:%b %H:%M:%S}".removesuffix(":00"),
        note=as_sentence(each.note) if each.note else "",
    )


def _as_schedule(typed: Blank, at: datetime) -> Schedule:
    """Return what is typed as a schedule that lint can read; what is no number there is left out."""
    within = typed["expect_success_within_s"]
    bare = Schedule(
        id="", name=typed["name"], job_type=typed["job_type"], payload_text="{}", cron=typed["cron"],
        timezone=typed["timezone"] or "UTC", enabled=True, max_attempts=1, queue="default", priority=2, catchup="latest",
        catchup_max=100, catchup_window_s=86400.0, overlap="allow", dst=typed["dst"] or "once", jitter_s=0.0,
        timeout_s=None, expect_success_within_s=None, ping_url=None, origin="operator", state="enabled",
        next_run_at=None, last_run_at=None, last_fire_at=None, last_error=None, created_at=at, updated_at=at,
    )  # fmt: skip
    try:
        return replace(bare, expect_success_within_s=number(within, "expect_success_within_s"))
    except InvalidInput:
        return bare
