"""Lists of jobs by filters that stand in the address."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import RedirectResponse

from ayb_jobs.checks.verdict import COUNTED
from ayb_jobs.http.dashboard.bulk import offered
from ayb_jobs.http.dashboard.filtering import read_filter
from ayb_jobs.http.dashboard.shell import HEADERS, Visitor, query
from ayb_jobs.http.requests import cursor_of, place_after
from ayb_jobs.model.job import JobState
from ayb_jobs.model.pauses import PauseKind, pauses_of
from ayb_jobs.model.words import counted, span_words
from ayb_jobs.storage.clock import now
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.paused import paused_names
from ayb_jobs.storage.queue.browsing import LOOK, Counts, Listed, Page, Shown, browse_jobs, count_shown
from ayb_jobs.storage.queue.queues import list_queue_names
from ayb_jobs.storage.queue.stats import estimate_jobs

PAGE = 50
TABS = (
    (Shown.ALL, "All"),
    (Shown.WAITING, "Waiting"),
    (Shown.LATER, "Later"),
    (Shown.RUNNING, "Running"),
    (Shown.FAILED, "Failed"),
    (Shown.COMPLETED, "Completed"),
    (Shown.CANCELED, "Canceled"),
)


def add_to(routes: APIRouter) -> None:
    """Add the list of jobs."""
    routes.add_api_route("/jobs", jobs, methods=["GET"])


def jobs(visit: Visitor) -> Response:
    """Show a list of jobs."""
    if visit.asked("state") == JobState.QUEUED:  # the word of the command line and of the API
        kept = {name: value for name, value in visit.request.query_params.items() if name != "state"}
        return RedirectResponse(f"/jobs?{query(state=Shown.WAITING.value, **kept)}", 303, HEADERS)
    shown = Shown(visit.chosen("state", list(Shown), Shown.ALL))
    cursor = visit.asked("cursor")
    with visit.reading() as conn:
        at = now(conn)
        clock = visit.clock(at)
        asked = read_filter(visit.request.query_params, clock)
        page = browse_jobs(conn, shown, asked.wanted, after=place_after(cursor), limit=PAGE, look=LOOK)
        paused = paused_names(conn)
        counts = count_shown(conn, most=COUNTED)
        estimates = _estimates(conn, counts)
        bulk = offered(conn, shown, asked, clock) if not cursor else None
        queues = list_queue_names(conn, served=visit.services.queues)
    said = {name: value for name, value in asked.typed.items() if value}
    return visit.page(
        "jobs.html",
        status=400 if asked.wrong else 200,
        now=at,
        title=f"{shown.title()} jobs" if shown is not Shown.ALL else "Jobs",
        shown=shown,
        tabs=list(_tabs(shown, said, counts, estimates)),
        typed=asked.typed,
        wrong=asked.wrong,
        is_filtered=asked.is_filtered,
        types=sorted({*visit.services.registry.names(), *(each.type for each in page.jobs)}),
        queues=queues,
        bulk=bulk,
        page=page,
        look=LOOK,
        by_due_time=shown.by_due_time,
        state_of=partial(state_of, paused),
        ran_or_waits=ran_or_waits,
        without=_without(shown, said),
        is_later_page=bool(cursor),
        first_href=f"/jobs?{query(state=shown, **said)}",
        next_href=_next(shown, said, page),
    )


def _next(shown: Shown, said: Mapping[str, str], page: Page) -> str:
    return f"/jobs?{query(state=shown, **said, cursor=cursor_of(page.next))}" if page.next else ""


def _tabs(
    chosen: Shown, said: Mapping[str, str], counts: Counts, estimates: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    for shown, word in TABS:
        cut = counts.cut and shown.by_due_time
        count = "" if shown is Shown.ALL else estimates.get(shown) or counted(getattr(counts, shown), cut=cut)
        href = f"/jobs?{query(state=shown, **said)}"
        yield {"word": word, "href": href, "is_chosen": shown is chosen, "count": count}


def _estimates(conn: Connection, counts: Counts) -> Mapping[str, str]:
    """Return estimates for the states of which there are more than are counted."""
    many = [name for name in ("completed", "failed", "canceled") if getattr(counts, name) >= COUNTED]
    if not many:
        return {}
    found = estimate_jobs(conn)
    return {name: f"≈ {_rounded(found.get(name, 0)):,}" for name in many}


def _rounded(count: int) -> int:
    """Return an estimate with the three digits that it is good for."""
    return round(count, min(0, 3 - len(str(count))))


def _without(shown: Shown, said: Mapping[str, str]) -> list[dict[str, str]]:
    """Return links to the same list with one part of the filter left out."""
    names = {"type": "Any type", "queue": "Any queue", "key": "Any key", "batch_id": "Any batch", "since": "Created at any time before",
             "until": "Created at any time after", "error": "Any error", "alike": "Any error"}  # fmt: skip
    links = [
        {
            "word": names[left_out],
            "href": f"/jobs?{query(state=shown, **{k: v for k, v in said.items() if k != left_out})}",
        }
        for left_out in said
    ]
    return [*links, {"word": "All jobs", "href": "/jobs"}] if shown is not Shown.ALL or links else links


def state_of(paused: frozenset[tuple[PauseKind, str]], job: Listed) -> tuple[str, str]:
    """Return a listed job's state as it is drawn: its shape, and its word. `paused` is what is paused.

    A job that is blocked is called so even if it is paused, as in the command line's list.
    """
    match job.state:
        case JobState.QUEUED if job.is_blocked:
            return "later", "blocked"
        case JobState.QUEUED if paused & pauses_of(job.queue, job.type, job.limit, job.limit_key):
            return "paused", "paused"
        case JobState.QUEUED if job.attempts:
            return "retry", "waits again"
        case JobState.QUEUED:
            return ("queued", "waits") if job.is_due else ("later", "later")
        case JobState.RUNNING:
            return "running", "runs"
        case _:
            return str(job.state), str(job.state)


def ran_or_waits(job: Listed) -> str:
    """Return how long a listed job ran, runs or waits."""
    if job.state is JobState.RUNNING:
        return f"runs {span_words(job.ran_s or 0)}"
    if job.state is JobState.QUEUED:
        if job.waited_s is None:
            return ""
        if job.is_blocked:
            return "depends on others"
        return f"waits {span_words(job.waited_s)}" if job.waited_s >= 0 else f"due in {span_words(-job.waited_s)}"
    return "" if job.ran_s is None else f"ran {span_words(job.ran_s)}"
