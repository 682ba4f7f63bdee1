"""What the first page is made of, read at one moment."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from ayb_jobs.checks.verdict import COUNTED, Mood, Verdict
from ayb_jobs.http.dashboard.shared import Shared
from ayb_jobs.http.dashboard.words import SPANS
from ayb_jobs.http.services import Services
from ayb_jobs.model.filters import Filter
from ayb_jobs.model.schedules.schedule import Schedule
from ayb_jobs.model.surroundings import Runner
from ayb_jobs.storage.clock import now
from ayb_jobs.storage.fleet.waiting import live_runners
from ayb_jobs.storage.queue.browsing import Counts, count_shown
from ayb_jobs.storage.queue.failures import GroupedFailures, group_failures
from ayb_jobs.storage.queue.minutes import Level, list_levels
from ayb_jobs.storage.requests import reading
from ayb_jobs.storage.schedules.overdue import Overdue, list_overdue
from ayb_jobs.storage.schedules.schedules import list_schedules

HOUR = SPANS["hour"][1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How things stand: the verdict, the figures with their last hour, who runs jobs, what failed, what is overdue.

    `coming` are the schedules that fire next, read only if nothing has run yet.
    """

    at: datetime
    verdict: Verdict
    counts: Counts
    runners: Sequence[Runner]
    levels: Sequence[Level]
    failures: GroupedFailures
    overdue: Sequence[Overdue]
    coming: Sequence[Schedule]


def look(services: Services, pulse: Shared[Verdict]) -> Standing:
    """Read all of it; raises `DatabaseError` if the database does not answer."""
    verdict = pulse.renew()
    with reading(services.database, services.read_timeout_s) as conn:
        is_late = any(each.name == "schedules.overdue" for each in verdict.findings)
        is_empty = verdict.mood is Mood.READY
        return Standing(
            at=now(conn),
            verdict=verdict,
            counts=count_shown(conn, most=COUNTED),
            runners=live_runners(conn),
            levels=list_levels(conn, span=HOUR) if HOUR else [],
            failures=group_failures(conn, Filter(), span=HOUR),
            overdue=list_overdue(conn) if is_late else [],
            coming=[each for each in list_schedules(conn) if each.enabled and each.next_run_at] if is_empty else [],
        )
