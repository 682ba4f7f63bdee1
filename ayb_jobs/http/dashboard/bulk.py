"""Acting on all jobs of a list that match a filter, with their count first."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Response

from ayb_jobs.checks.verdict import COUNTED
from ayb_jobs.errors import InvalidInput
from ayb_jobs.http.acting import acting_in_steps
from ayb_jobs.http.dashboard.clock import Clock
from ayb_jobs.http.dashboard.filtering import Asked, read_filter
from ayb_jobs.http.dashboard.shell import Fields, Visit, Visitor, query
from ayb_jobs.http.edge.auth import Scope
from ayb_jobs.http.requests import cursor_of, place_after
from ayb_jobs.model.filters import Filter
from ayb_jobs.model.instants import instant_text
from ayb_jobs.model.words import count_words
from ayb_jobs.operations.bulk import WAYS, BulkAction, change
from ayb_jobs.storage.clock import now
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue.browsing import Shown, browse_jobs
from ayb_jobs.storage.queue.bulk import Glimpse, glimpse_jobs

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
    """Add what tells how many jobs match, and acting on them."""
    routes.add_api_route("/jobs/bulk", confirm, methods=["GET"])
    routes.add_api_route("/jobs/bulk", act, methods=["POST"])


def offered(conn: Connection, shown: Shown, asked: Asked, clock: Clock) -> dict[str, Any] | None:
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
        fields={"action": action, "counted": instant_text(at), "cursor": visit.asked("cursor"), **asked.said},
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
    done = change(begin, action, wanted, actor=actor, after=place_after(fields.get("cursor", "")))
    if rest := cursor_of(done.next):
        return visit.onward("/jobs/bulk", str(action), count=done.count, action=action, cursor=rest, **asked.said)
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
    if wanted.since is not None and wanted.since >= at:  # there is none to count, so the page offers nothing
        return wanted
    return replace(wanted, until=min(wanted.until or at, at))


def _action(text: str) -> BulkAction:
    if text not in list(BulkAction):
        raise InvalidInput(f"there is no such action; there are {', '.join(BulkAction)}", field="action")
    return BulkAction(text)


def _right(visit: Visit, typed: Mapping[str, str], at: datetime | None) -> Asked:
    """Return the filter; raises `InvalidInput` if any of it is wrong: nothing may be done to more than was meant."""
    asked = read_filter(typed, visit.clock(at))
    if asked.wrong:
        raise InvalidInput(next(iter(asked.wrong.values())))
    return asked
