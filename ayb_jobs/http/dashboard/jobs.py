"""Lists of jobs by filters that stand in the address, and acting on all that match, with the count first."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

from fastapi import APIRouter, Response

from ayb_jobs.checks.verdict import COUNTED
from ayb_jobs.errors import InvalidInput
from ayb_jobs.http.acting import acting_in_steps
from ayb_jobs.http.dashboard.clock import Clock
from ayb_jobs.http.dashboard.shell import Blank, Fields, Visit, Visitor, query
from ayb_jobs.http.edge.auth import Scope
from ayb_jobs.http.requests import cursor_text, read_cursor
from ayb_jobs.model.filters import Filter
from ayb_jobs.model.instants import instant_text
from ayb_jobs.model.job import JobState
from ayb_jobs.model.pauses import PauseKind, pauses_of
from ayb_jobs.model.words import as_sentence, count_words, counted, span_words
from ayb_jobs.operations import bulk
from ayb_jobs.operations.bulk import WAYS, BulkAction
from ayb_jobs.storage.clock import now
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.paused import paused_names
from ayb_jobs.storage.queue.browsing import LOOK, Counts, Listed, Page, Shown, browse_jobs, count_shown
from ayb_jobs.storage.queue.bulk import Glimpse, glimpse_jobs
from ayb_jobs.storage.queue.queues import list_queue_names
from ayb_jobs.storage.queue.stats import estimate_jobs

PAGE = 50
FILTERS = ("type", "queue", "key", "batch_id", "since", "until", "error", "alike")
TABS = (
    (Shown.ALL, "All"),
    (Shown.WAITING, "Waiting"),
    (Shown.LATER, "Later"),
    (Shown.RUNNING, "Running"),
    (Shown.FAILED, "Failed"),
    (Shown.COMPLETED, "Completed"),
    (Shown.CANCELED, "Canceled"),
)
# What can be done to all jobs of a list that match: the action, its verb, and what it does.
ACTIONS: Mapping[Shown, BulkAction] = {
    Shown.FAILED: BulkAction.RETRY,
    Shown.WAITING: BulkAction.CANCEL,
    Shown.LATER: BulkAction.CANCEL,
    Shown.RUNNING: BulkAction.CANCEL_RUNNING,
}
VERBS: Mapping[BulkAction, str] = {
    BulkAction.RETRY: "Retry",
    BulkAction.CANCEL: "Cancel",
    BulkAction.CANCEL_RUNNING: "Cancel",
}
EFFECTS: Mapping[BulkAction, str] = {
    BulkAction.RETRY: "Each becomes due now, with all its attempts.",
    BulkAction.CANCEL: "Each queued job ends canceled, due or not, and never runs.",
    BulkAction.CANCEL_RUNNING: "The handler of each is told to stop, and whatever it does, the job ends canceled.",
}
LISTS: Mapping[BulkAction, Shown] = {
    BulkAction.RETRY: Shown.FAILED,
    BulkAction.CANCEL: Shown.WAITING,
    BulkAction.CANCEL_RUNNING: Shown.RUNNING,
}


def add_to(routes: APIRouter) -> None:
    """Add the list of jobs, and acting on all that match."""
    routes.add_api_route("/jobs", jobs, methods=["GET"])
    routes.add_api_route("/jobs/bulk", confirm, methods=["GET"])
    routes.add_api_route("/jobs/bulk", act, methods=["POST"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A filter as it was typed, as it is meant, and what is wrong with it."""

    typed: Blank
    wanted: Filter
    wrong: Blank

    @property
    def is_filtered(self) -> bool:
        """Whether anything was typed."""
        return any(self.typed.values())

    @property
    def said(self) -> Mapping[str, str]:
        """What was typed, with each time as an instant, which means the same tomorrow and in any zone."""
        instants = {"since": self.wanted.since, "until": self.wanted.until}
        return {
            name: value if (at := instants.get(name)) is None else instant_text(at)
            for name, value in self.typed.items()
            if value
        }


def read_filter(typed: Mapping[str, str], clock: Clock) -> Asked:
    """Return the filter that a visitor typed; a field that is wrong is told, and left out."""
    kept = Blank({name: typed.get(name, "").strip() for name in FILTERS})
    values: dict[str, Any] = {}
    wrong = Blank()
    for name in FILTERS:
        try:
            values[name] = clock.read(kept[name], name) if name in {"since", "until"} else kept[name] or None
            Filter(**{name: values[name]})
        except InvalidInput as error:
            values.pop(name, None)
            wrong[name] = as_sentence(str(error))
    return Asked(typed=kept, wanted=Filter(**values), wrong=wrong)


def jobs(visit: Visitor) -> Response:
    """Show a list of jobs."""
    shown = Shown(visit.chosen("state", list(Shown), Shown.ALL))
    cursor = visit.asked("cursor")
    with visit.reading() as conn:
        at = now(conn)
        clock = visit.clock(at)
        asked = read_filter(visit.request.query_params, clock)
        page = browse_jobs(
            conn, shown, asked.wanted, after=read_cursor(cursor) if cursor else None, limit=PAGE, look=LOOK
        )
        paused = paused_names(conn)
        counts = count_shown(conn, most=COUNTED)
        estimates = _estimates(conn, counts)
        bulk_ = _bulk(conn, shown, asked, clock) if not cursor else None
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
        bulk=bulk_,
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
    return f"/jobs?{query(state=shown, **said, cursor=cursor_text(page.next))}" if page.next else ""


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


def _bulk(conn: Connection, shown: Shown, asked: Asked, clock: Clock) -> dict[str, Any] | None:
    """Return what can be done to all that match, with their number."""
    action = ACTIONS.get(shown)
    if action is None or asked.wrong:
        return None
    found = glimpse_jobs(conn, state=WAYS[action].before, wanted=asked.wanted, most=COUNTED)
    return {
        "count": f"{found.jobs:,}" if found.whole else f"{found.jobs:,}+",
        "words": words_of(action, asked, clock, one=found == (1, True)),
        "word": VERBS[action],
        "href": f"/jobs/bulk?{query(action=action, **asked.said)}",
    }


def words_of(action: BulkAction, asked: Asked, clock: Clock, *, one: bool = False) -> str:
    """Return which jobs a filter means, in words."""
    state = WAYS[action].before
    wanted = asked.wanted
    parts = [state, *([wanted.type] if wanted.type else []), "job" if one else "jobs"]
    parts += [f"in queue {wanted.queue}"] if wanted.queue else []
    parts += [f"with key {wanted.key}"] if wanted.key else []
    parts += [f"of batch {wanted.batch_id}"] if wanted.batch_id else []
    parts += [f"created since {clock.at(wanted.since)}"] if wanted.since else []
    parts += [f"created before {clock.at(wanted.until)}"] if wanted.until else []
    parts += [f"with “{wanted.error}” in the error"] if wanted.error else []
    return " ".join(parts) + (", due or not" if action is BulkAction.CANCEL else "")


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


def confirm(visit: Visitor) -> Response:
    """Tell what a press would do to all that match, with their number and some of them."""
    visit.need(Scope.OPERATE)
    action = _action(visit.asked("action"))
    with visit.reading() as conn:
        at = now(conn)
        asked = _right(visit, visit.request.query_params, at)
        wanted = _made_before(at, asked.wanted)
        found = glimpse_jobs(conn, state=WAYS[action].before, wanted=wanted, most=COUNTED)
        examples = browse_jobs(conn, LISTS[action], wanted, limit=5).jobs
        if not examples and action is BulkAction.CANCEL:
            examples = browse_jobs(conn, Shown.LATER, wanted, limit=5).jobs
    words = words_of(action, asked, visit.clock(at), one=found == (1, True))
    count = _how_many(found)
    is_none = found == (0, True)
    return visit.page(
        "confirm.html",
        now=at,
        title=f"No job to {VERBS[action].lower()}" if is_none else f"{VERBS[action]} {count}?",
        word=VERBS[action],
        count=count,
        words=words[:1].upper() + words[1:],
        alike=asked.typed["alike"],
        effect=EFFECTS[action],
        is_none=is_none,
        is_many=not found.whole,
        examples=examples,
        fields={"action": action, "counted": instant_text(at), **asked.said},
        back=f"/jobs?{query(state=LISTS[action], **asked.said)}",
    )


def _how_many(found: Glimpse) -> str:
    """Return how many jobs match; not all were looked at if they are many, or if few of many match."""
    if found.whole or found.jobs >= COUNTED:
        return count_words(found.jobs, "job", most=COUNTED)
    return f"at least {count_words(found.jobs, 'job')}" if found.jobs else "all jobs that match"


def act(visit: Visitor, fields: Fields) -> Response:
    """Do it to all that match, and say to how many."""
    session = visit.need(Scope.OPERATE)
    action = _action(fields.get("action", ""))
    asked, wanted = _previewed(visit, fields)
    begin, actor = acting_in_steps(visit.services, session.caller)
    done = bulk.change(begin, action, wanted, actor=actor)
    if not done.done:
        return visit.onward("/jobs/bulk", str(action), count=done.count, action=action, **asked.said)
    return visit.onward("/jobs", str(action), count=done.count, state=LISTS[action], **asked.said)


def _previewed(visit: Visit, fields: Mapping[str, str]) -> tuple[Asked, Filter]:
    """Return what was asked, and the filter whose jobs were counted.

    Raises `InvalidInput` if the form does not say when that was.
    """
    asked = _right(visit, fields, None)
    counted = fields.get("counted", "")
    at = visit.clock().read(counted, "counted")
    if at is None or instant_text(at) != counted or any(asked.said[name] != asked.typed[name] for name in asked.said):
        raise InvalidInput("the form does not say which jobs were counted, and when; open its page again")
    return asked, _made_before(at, asked.wanted)


def _made_before(at: datetime, wanted: Filter) -> Filter:
    """Return a filter that leaves out what is made after its jobs were counted."""
    return replace(wanted, until=min(wanted.until or at, at))


def _action(text: str) -> BulkAction:
    if text not in list(BulkAction):
        raise InvalidInput(f"action is none of {', '.join(BulkAction)}", field="action")
    return BulkAction(text)


def _right(visit: Visit, typed: Mapping[str, str], at: datetime | None) -> Asked:
    """Return the filter; raises `InvalidInput` if any of it is wrong: nothing may be done to more than was meant."""
    asked = read_filter(typed, visit.clock(at))
    if asked.wrong:
        raise InvalidInput(next(iter(asked.wrong.values())))
    return asked
