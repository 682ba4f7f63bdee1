"""The first page: the sentence, four figures, and what needs somebody."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Response

from ayb_jobs.checks.finding import Finding
from ayb_jobs.checks.verdict import Mood, Verdict
from ayb_jobs.http.dashboard import charts, grouping
from ayb_jobs.http.dashboard import levels as words
from ayb_jobs.http.dashboard.clock import Clock
from ayb_jobs.http.dashboard.shell import Visitor, query
from ayb_jobs.http.dashboard.standing import Standing
from ayb_jobs.http.dashboard.texts import Html
from ayb_jobs.model.daemons import ENDINGS
from ayb_jobs.model.surroundings import Runner
from ayb_jobs.model.words import as_sentence, count_words, counted, span_words
from ayb_jobs.storage.schedules.overdue import Overdue

# What is late, or held on purpose, is amber; whatever else needs somebody is red.
# As a finding names the table of the rows that the database refuses.
SCHEDULES = "_ayb_job_schedules"
HELD = frozenset({"late", "paused", "full"})
MOST_OVERDUE = 10
# Waits that one look measured by two statements are the same if they differ by less.
SAME_S = 2.0
MOST_GROUPS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Deviation:
    """Something that needs somebody: its sentence, and what to press."""

    icon: str
    tone: str
    sentence: str
    meaning: str
    word: str = ""
    href: str = ""
    action: str = ""
    since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One of the four figures."""

    name: str
    value: str
    note: str
    href: str
    chart: Html
    tone: str = ""


def add_to(routes: APIRouter) -> None:
    """Add the overview."""
    routes.add_api_route("/", overview, methods=["GET", "HEAD"])


def overview(visit: Visitor) -> Response:
    """Show how things stand."""
    seen = visit.pages.standing.ask()
    verdict, failures, at = seen.verdict, seen.failures, seen.at
    first, others = _deviations(seen)
    return visit.page(
        "overview.html",
        now=at,
        verdict=verdict,
        head=_head(verdict),
        is_grave=first is None or first.tone not in HELD,
        first=first,
        others=others,
        figures=_figures(visit.clock(at), seen),
        is_empty=verdict.mood is Mood.READY,
        all_seen=verdict.figures is not None and verdict.figures.all_seen,
        coming=sorted(seen.coming, key=lambda each: (each.next_run_at or at, each.name)),
        first_type=min(visit.services.registry.names(), default=""),
        **grouping.context(failures, seen="hour", most=MOST_GROUPS),
    )


def _head(verdict: Verdict) -> str:
    """Return the window's title, which tells the state to whoever has it among others."""
    match verdict.mood:
        case Mood.WELL | Mood.READY:
            return "Overview"
        case _:
            return f"! {verdict.sentence.replace('`', '')[:60]}"


def _deviations(seen: Standing) -> tuple[Deviation | None, list[Deviation]]:
    """Return what the sentence tells of, unless that is over, and what else does: the red before the amber."""
    told, *rest = [list(_deviations_of(each, seen)) for each in seen.verdict.findings] or [[]]
    others = [*told[1:], *chain.from_iterable(rest)]
    return next(iter(told), None), sorted(others, key=lambda each: each.tone in HELD)


def _deviations_of(finding: Finding, seen: Standing) -> Iterator[Deviation]:
    if finding.name == "schedules.overdue":
        yield from _overdue(seen.overdue)
    else:
        yield _deviation(finding)


def _overdue(late: Sequence[Overdue]) -> Iterator[Deviation]:
    """Yield the schedules that are overdue, each with what to press."""
    for each in late[:MOST_OVERDUE]:
        can_run = each.reason in {"no_success", "not_fired"}
        yield Deviation(
            icon="overdue",
            tone="overdue",
            sentence=as_sentence(each.told),
            meaning="Its work was not done in time." if each.last_error is None else each.last_error[:300],
            word="Run it now" if can_run else "Show it",
            href=f"/schedules/{each.schedule_id}",
            action=f"/schedules/{each.schedule_id}/trigger" if can_run else "",
            since=each.since,
        )
    if len(late) > MOST_OVERDUE:
        yield Deviation(
            icon="overdue",
            tone="overdue",
            sentence=f"{count_words(len(late) - MOST_OVERDUE, 'further schedule is', 'further schedules are')} overdue.",
            meaning="Their work was not done in time.",
            word="Show all",
            href="/schedules",
        )


def _deviation(finding: Finding) -> Deviation:
    icon, tone, word, href = _press(finding)
    return Deviation(
        icon=icon, tone=tone, sentence=as_sentence(finding.told), meaning=finding.meaning, word=word, href=href
    )


def _press(finding: Finding) -> tuple[str, str, str, str]:
    """Return how a finding is drawn, and what leads to it: icon, tone, word, address."""
    return PRESSED.get(finding.name, _nothing)(finding.evidence)


def _nothing(_: Mapping[str, Any]) -> tuple[str, str, str, str]:
    return "overdue", "overdue", "", ""


def _unclaimable(evidence: Mapping[str, Any]) -> tuple[str, str, str, str]:
    by_type, by_queue = evidence["byType"], evidence["byQueue"]
    first, count = next(iter((by_type or by_queue).items()))
    of_them = " of them" if count < evidence["count"] else ""
    narrowed = query(state="waiting", type=first) if by_type else query(state="waiting", queue=first)
    return "unknown", "unknown", f"Show {count:,}{of_them}", f"/jobs?{narrowed}"


def _refused(evidence: Mapping[str, Any]) -> tuple[str, str, str, str]:
    if ENDINGS in evidence["rows"]:
        return "failed", "failed", "Show what runs", f"/jobs?{query(state='running')}"
    if evidence["rows"].get(SCHEDULES) == 1:
        first = next(row for row in evidence["first"] if row.startswith(f"{SCHEDULES} "))
        return (
            "failed",
            "failed",
            "Show the schedule",
            f"/schedules/{quote(first.removeprefix(f'{SCHEDULES} '), safe='')}",
        )
    if SCHEDULES in evidence["rows"]:
        return "failed", "failed", "Show the schedules", "/schedules"
    return "failed", "failed", "Show the daemons", "/daemons"


def _daemons(_: Mapping[str, Any]) -> tuple[str, str, str, str]:
    return "gone", "gone", "Show the daemons", "/daemons"


PRESSED: Mapping[str, Callable[[Mapping[str, Any]], tuple[str, str, str, str]]] = {
    "jobs.late": lambda found: (
        "late", "late", "Show what waits", f"/jobs?{query(state='waiting', queue=found['queue'])}",
    ),
    "jobs.unclaimable": _unclaimable,
    "jobs.paused": lambda _: ("paused", "paused", "Show what is paused", "/queues"),
    "jobs.limited": lambda found: (
        "full", "full", "Show who holds it", f"/queues?{query(limit=found['limits'][0]['name'])}",
    ),
    "jobs.failing": lambda found: (
        "failed", "failed", "Show the errors", f"/failures?{query(seen='hour', type=found['type'])}",
    ),
    "jobs.retrying": lambda found: (
        "failed", "failed", "Show what waits", f"/jobs?{query(type=found['type'])}",
    ),
    "jobs.abandoned": _daemons,
    "daemon.none": _daemons,
    "daemon.gone": _daemons,
    "daemon.lifeless": _daemons,
    "daemon.stuck": _daemons,
    "handlers.stuck": _daemons,
    "rows.refused": _refused,
    "alerts.undelivered": lambda _: ("overdue", "overdue", "Show the schedules", "/schedules"),
    "retention.deferred": lambda _: ("later", "late", "", ""),
}  # fmt: skip


def _figures(clock: Clock, seen: Standing) -> list[Figure]:
    verdict, counts, failures = seen.verdict, seen.counts, seen.failures
    found = {each.name: each for each in verdict.findings}
    figures = verdict.figures
    levels = [*seen.levels, figures.level] if figures else seen.levels
    oldest_s = figures.level.oldest_wait_s if figures else 0.0
    slots = figures.slots if figures else 0
    failed = counted(failures.jobs, most=None, cut=failures.cut)
    late = found.get("jobs.late") or found.get("jobs.unclaimable")
    later = (
        f"{counted(counts.later, cut=counts.cut)} more {'is' if counts.later == 1 else 'are'} due later"
        if counts.later
        else ""
    )
    return [
        Figure(
            name="Waiting now",
            value=counted(counts.waiting, cut=counts.cut),
            note=later or words.most_words(clock, levels, "waiting"),
            href="/jobs?state=waiting",
            chart=charts.line(
                words.points_of(levels, "waiting", seen.at), words.said(levels, "waiting", "Waiting jobs")
            ),
        ),
        Figure(
            name="Running",
            value=counted(counts.running),
            note=_slots(slots, seen.runners) if slots else "no live daemon has a slot",
            href="/daemons",
            chart=charts.line(
                words.points_of(levels, "running", seen.at), words.said(levels, "running", "Running jobs")
            ),
        ),
        Figure(
            name="Failed in the hour",
            value=failed,
            note=f"the last at {clock.short(failures.last_at)}" if failures.last_at else "none to retry",
            href="/failures?seen=hour",
            chart=charts.bars(failures.buckets, f"Failed jobs in the last hour: {failed}"),
            tone="bad" if "jobs.failing" in found else "",
        ),
        Figure(
            name="Oldest wait",
            value=span_words(oldest_s) if counts.waiting else "–",
            note=_where(found, oldest_s) or words.longest_words(clock, levels),
            href="/jobs?state=waiting",
            chart=charts.line(
                words.points_of(levels, "oldest_wait_s", seen.at), words.waits(levels), "bad" if late else ""
            ),
            tone="bad" if late else "",
        ),
    ]


def _slots(slots: int, runners: Sequence[Runner]) -> str:
    """Return how many slots there are, and how many are busy of the kind of handlers that has the fewest free."""
    kinds = (
        ("plain", sum(each.busy for each in runners), sum(each.slots for each in runners)),
        ("isolated", sum(each.isolated_busy for each in runners), sum(each.isolated_slots for each in runners)),
        ("async", sum(each.async_busy for each in runners), sum(each.async_slots for each in runners)),
    )
    kind, busy, own = max(kinds, key=lambda each: each[1] / each[2] if each[2] else 0.0)
    if not busy or not 0 < own < slots:
        return f"of {count_words(slots, 'slot')}"
    return f"{min(busy, own):,} of {count_words(own, 'slot')} for {kind} handlers; {slots:,} slots in all"


def _where(found: Mapping[str, Finding], oldest_s: float) -> str:
    """Return where the job is that waits longest, if it is one of those that a finding tells of."""
    late, paused = found.get("jobs.late"), found.get("jobs.paused")
    if late and late.evidence["waited_s"] >= oldest_s - SAME_S:
        return f"in queue {late.evidence['queue']}"
    pauses = paused.evidence["pauses"] if paused else []
    first = max(pauses, key=lambda each: float(each["waited_s"]), default=None)
    if first and first["waited_s"] >= oldest_s - SAME_S:
        return f"in queue {first['name']}, paused" if first["kind"] == "queue" else f"of type {first['name']}, paused"
    return ""
