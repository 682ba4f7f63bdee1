"""The execution log, and what was processed over time."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from fastapi import APIRouter, Response

from ayb_jobs.http.dashboard import charts
from ayb_jobs.http.dashboard.clock import Clock
from ayb_jobs.http.dashboard.happened import OUTCOMES
from ayb_jobs.http.dashboard.shell import Visitor, query
from ayb_jobs.model.checked import MAX_NAME, checked_text
from ayb_jobs.model.execution import Execution
from ayb_jobs.model.words import span_words
from ayb_jobs.storage.clock import now
from ayb_jobs.storage.queue.executions import LOOK, find_look_end, list_executions
from ayb_jobs.storage.queue.minutes import Minute, list_minutes

PAGE = 50
# How far a chart reaches back, and the time of one bar.
MINUTE = timedelta(minutes=1)
OVERS: dict[str, tuple[str, timedelta, timedelta]] = {
    "hour": ("last hour", timedelta(hours=1), timedelta(minutes=2)),
    "day": ("last 24 hours", timedelta(hours=24), timedelta(minutes=30)),
    "week": ("last 7 days", timedelta(days=7), timedelta(hours=4)),
}


def add_to(routes: APIRouter) -> None:
    """Add the execution log."""
    routes.add_api_route("/executions", executions, methods=["GET"])


def executions(visit: Visitor) -> Response:
    """List attempts, the newest first, under a chart of what they processed."""
    type_ = checked_text(visit.asked("type", MAX_NAME + 1), "type", MAX_NAME)
    outcome = visit.chosen("outcome", ["failed"], "")
    over = visit.chosen("over", OVERS, "hour")
    before = visit.number("before")
    _, span, step = OVERS[over]
    with visit.reading() as conn:
        at = now(conn)
        end = find_look_end(conn, job_type=type_ or None, before=before) if outcome else None
        found = list_executions(
            conn, job_type=type_ or None, only_failures=bool(outcome), before=before, down_to=end, limit=PAGE
        )
        minutes = list_minutes(conn, span=span, step=step, job_type=type_ or None)
    looked = end is not None and len(found) < PAGE
    further = found[-1].id if len(found) == PAGE else end
    asked = {"type": type_, "outcome": outcome, "over": over}
    return visit.page(
        "executions.html",
        now=at,
        title="Executions",
        type=type_,
        types=visit.services.registry.names(),
        outcome=outcome,
        over=over,
        overs=[(name, word) for name, (word, _, _) in OVERS.items()],
        chart=_chart(minutes, at, visit.clock(at), over),
        executions=found,
        outcome_of=lambda each: OUTCOMES[each.outcome],
        took=lambda each: _took(each, at),
        first_line=lambda error: error.partition("\n")[0][:300],
        is_later_page=before is not None,
        looked=LOOK if looked else 0,
        first_href=f"/executions?{query(**asked)}",
        next_href=f"/executions?{query(**asked, before=further)}" if further is not None else "",
    )


def _took(each: Execution, at: datetime) -> str:
    words = span_words(((each.ended_at or at) - each.started_at).total_seconds())
    return words if each.ended_at else f"{words} so far"


def _chart(minutes: Sequence[Minute], at: datetime, clock: Clock, over: str) -> dict[str, Any]:
    """Return records where handlers tell of any, else what ended, over time."""
    word, span, step = OVERS[over]
    tells_records = any(each.records for each in minutes)
    start = at.replace(second=0, microsecond=0) + MINUTE - span
    bars = [0] * round(span / step)
    for each in minutes:
        place = min(len(bars) - 1, max(0, round((each.at - start) / step)))
        bars[place] += each.records if tells_records else each.completed + each.failed + each.retried
    most, total = max(bars), sum(bars)
    top = start + step * bars.index(most)
    end = charts.round_top(most)
    what = "records processed" if tells_records else "attempts ended"
    note = f"{total:,} in the {word}, by {span_words(step.total_seconds())}"
    return {
        "name": "Records processed" if tells_records else "Attempts that ended",
        "note": f"{note}; most: {most:,} at {clock.short(top)}" if total else note,
        "svg": charts.plot(
            bars, end, f"{what} by {span_words(step.total_seconds())}, {word}: {total:,}, most {most:,}"
        ),
        "scale": [_short(end * share) for share in (1, 2 / 3, 1 / 3, 0)],
        "times": [_tick(start + span * part / 4, clock, over) for part in range(5)],
    }


def _tick(instant: datetime, clock: Clock, over: str) -> str:
    local = clock.local(instant)
    return f"{local.day} {local:%b}" if over == "week" else f"{local:%H:%M}"


def _short(value: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g}"
