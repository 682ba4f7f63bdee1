"""Errors as pages: what is wrong, what it means, and what to press."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute

from ayb_jobs.checks.database import outage
from ayb_jobs.checks.loops import LoopAge
from ayb_jobs.checks.verdict import DISABLED, Mood, Verdict
from ayb_jobs.errors import AybJobsError, Conflict, DatabaseError, InvalidInput, NotFound, TookTooLong
from ayb_jobs.http.dashboard.login import local
from ayb_jobs.http.dashboard.shell import HEADERS, Visit, guest_of, query
from ayb_jobs.http.edge.problems import NOT_ENABLED, Refused
from ayb_jobs.model.words import as_sentence

NO_SESSION = 401
HOW_TO_ENABLE = "Set enabled = true under [jobs] in its configuration, or AYB_JOBS_ENABLED=true in its environment, and start it again."
GOES_ON = "The daemons ask again each second, and go on by themselves once it answers."
NOT_KNOWN = Verdict(sentence="Nothing is known until the database answers.", mood=Mood.UNKNOWN, findings=())
HELD_UP = "Another session may hold what was asked for, or the database is under load: `ayb-jobs doctor` names who."
NOT_STARTED = "This daemon has not started: it waits for its database, and runs no job until then. No job is lost."
# What acts on many commits as it goes.
IN_STEPS = ("/jobs/bulk", "/batches/")
IN_STEPS_CHANGED = "What was changed until then stays changed; the list shows it."
NOTHING_CHANGED = "Nothing was changed."
UNTIL_THEN = "Nothing here is known until it answers."
NONE_IS_LOST = "No job is lost. What runs goes on; how it ends is recorded as soon as that is possible."


class PageRoute(APIRoute):
    """A route whose errors are pages as well."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler, with errors rendered."""
        handler = super().get_route_handler()

        async def answered(request: Request) -> Response:
            try:
                return await handler(request)
            except AybJobsError as error:
                return await run_in_threadpool(_error_page, await guest_of(request), error)

        return answered


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    status: int
    sentence: str
    lines: tuple[str, ...] = ()
    loops: tuple[LoopAge, ...] = ()


def _error_page(visit: Visit, error: AybJobsError) -> Response:
    """Render an error: what it is, what it means, what to press."""
    if isinstance(error, Refused) and error.status == NO_SESSION:
        return RedirectResponse(f"/login?{query(next=_next(visit))}", 303, HEADERS)
    told = _told_of(visit, error)
    is_get = visit.request.method == "GET"
    is_gone = is_get and isinstance(error, NotFound)
    is_away = isinstance(error, DatabaseError) and not isinstance(error, TookTooLong)
    answer = visit.page(
        "error.html",
        status=told.status,
        title=told.sentence,
        sentence=told.sentence,
        lines=told.lines,
        loops=told.loops,
        verdict=NOT_KNOWN if is_away and visit.session else None,
        asks_again=is_away and is_get,
        here="/" if is_gone else visit.here if is_get else _page_before(visit),
        word="Overview" if is_gone else "Ask again" if is_get else "Back to the page",
        back="/" if is_get and not is_gone and visit.request.url.path != "/" else "",
        back_word="Overview",
    )
    if isinstance(error, DatabaseError):
        answer.headers["Retry-After"] = "1"
    return answer


def _page_before(visit: Visit) -> str:
    """Return the page of ours that a form was sent from, as its browser says."""
    try:
        parts = urlsplit(visit.request.headers.get("referer", ""))
    except ValueError:
        return "/"
    return local(parts.path + (f"?{parts.query}" if parts.query else ""))


def _told_of(visit: Visit, error: AybJobsError) -> _Told:
    sentence = as_sentence(str(error))
    match error:
        case Refused(status=503) if str(error) == NOT_ENABLED:
            return _Told(status=503, sentence=DISABLED.sentence, lines=(HOW_TO_ENABLE,))
        case Refused():
            return _Told(status=error.status, sentence=sentence)
        case NotFound():
            return _Told(status=404, sentence=sentence, lines=(_removed(visit),))
        case Conflict() | InvalidInput():
            status = 409 if isinstance(error, Conflict) else 400
            return _Told(status=status, sentence=sentence, lines=(NOTHING_CHANGED,))
        case DatabaseError():
            return _unanswered(visit, error, sentence)
        case _:
            return _Told(status=500, sentence="An error occurred here; the daemon's log has the details.")


def _removed(visit: Visit) -> str:
    kept = visit.request.url.path.startswith(("/jobs/", "/batches/"))
    return "It may have been removed after its retention." if kept else "It may have been removed meanwhile."


def _unanswered(visit: Visit, error: DatabaseError, sentence: str) -> _Told:
    """Tell that the database does not answer: it is away, or takes longer than a page waits.

    Said as `/readyz` says it. The error itself, which may name a host, is for those who may read the pages.
    """
    if not isinstance(error, TookTooLong):
        error = _said_to_loops(visit, error)
        sentence = as_sentence(str(error))
    told = as_sentence(outage(error).told)
    answer = (f"What was answered: {sentence}",) if visit.session and told != sentence else ()
    if isinstance(error, TookTooLong):
        path = visit.request.url.path
        in_steps = path.startswith(IN_STEPS) or path.endswith("/delete")
        changed = IN_STEPS_CHANGED if in_steps else NOTHING_CHANGED
        return _Told(
            status=503, sentence=told, lines=(HELD_UP,) if visit.request.method == "GET" else (changed, HELD_UP)
        )
    asked = f"Asked at {visit.clock().at(datetime.now(UTC))}. {GOES_ON}"
    has_started = visit.services.has_started()
    loops = tuple(visit.services.loops()) if visit.session and has_started else ()
    lost = NONE_IS_LOST if has_started or not visit.session else NOT_STARTED
    return _Told(status=503, sentence=told, lines=(*answer, f"{UNTIL_THEN} {asked}", lost), loops=loops)


def _said_to_loops(visit: Visit, error: DatabaseError) -> DatabaseError:
    """Return why a loop finds no database, if one does: whoever waits in vain for a connection hears no reason."""
    said = (loop.error for loop in visit.services.loops() if loop.waits_for_database)
    return next((each for each in said if isinstance(each, DatabaseError)), error)


def _next(visit: Visit) -> str:
    return visit.here if visit.request.method == "GET" else "/"
