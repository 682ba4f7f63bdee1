"""Is the daemon alive, and is it ready? For probes over HTTP and for `ayb-jobs health`."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from fastapi import APIRouter, Request, Response

from ayb_jobs.checks.database import lacks_what_work_needs, outage, unanswered, unfit_database, unwritable_database
from ayb_jobs.checks.finding import Finding, Severity, facts, shown
from ayb_jobs.checks.fleet import stopping, unclaimable
from ayb_jobs.checks.loops import LoopAge, loops_without_room, stuck_loops, troubled_loops
from ayb_jobs.checks.retention import deferred
from ayb_jobs.checks.schedules import overdue
from ayb_jobs.checks.server import rights
from ayb_jobs.checks.verdict import DISABLED, Look, Verdict, decide, look_round
from ayb_jobs.errors import AybJobsError, ConnectionLost, DatabaseError
from ayb_jobs.events import RequestFailed
from ayb_jobs.http.edge.auth import Authenticator
from ayb_jobs.http.requests import Given
from ayb_jobs.http.services import Services
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.requests import probing

DATABASE_S = 2.0
COUNTED: Mapping[str, Callable[[Connection], Finding | None]] = {
    "overdueSchedules": overdue,
    "unclaimableJobs": unclaimable,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """An answer to a probe: well if no finding keeps work from being done.

    `verdict` tells how things stand, as the dashboard does.
    `notices` tell what an operator should know in time. `counted` are findings of which a probe tells the number: None
    if nothing was found, absent if the database did not say it in time. They do not make a probe fail: taking a daemon
    out of service would not make overdue schedules fire, or unclaimable jobs run.
    """

    findings: Sequence[Finding]
    loops: Sequence[LoopAge]
    verdict: Verdict | None = None
    counted: Mapping[str, Finding | None] = field(default_factory=dict)
    notices: Sequence[Finding] = ()

    @property
    def ok(self) -> bool:
        """Whether all is well."""
        return not facts(self.findings)

    def text(self, *, named: bool = False) -> str:
        """Return the answer as JSON; `named` for whoever may read the names of job types, queues and schedules."""
        sentence = {}
        if self.verdict is not None:
            sentence = {"sentence": self.verdict.sentence if named else self.verdict.nameless}
        loops = {loop.name: {"ageSec": round(loop.age_s, 3), "limitSec": loop.limit_s} for loop in self.loops}
        counts = {name: found.evidence["count"] if found else 0 for name, found in self.counted.items()}
        notices = {"notices": [notice.fact for notice in self.notices]} if self.notices else {}
        told = [*self.findings, *(found for found in self.counted.values() if found), *self.notices]
        answer: dict[str, Any] = {
            "status": "ok" if self.ok else "failing",
            "reasons": facts(self.findings),
            **sentence,
            "loops": loops,
            **counts,
            **notices,
            "findings": [shown(finding) for finding in told],
        }
        return json.dumps(answer, allow_nan=False)


def router() -> APIRouter:
    """Return the routes of the probes; no token is needed, and nothing secret is told."""
    routes = APIRouter(tags=["health"])
    failing: dict[int | str, dict[str, Any]] = {503: {"description": "Not well; the body lists the reasons"}}
    routes.add_api_route("/livez", livez, summary="Do the loops make progress?", responses=failing, response_model=None)
    routes.add_api_route("/readyz", readyz, summary="Can work be done?", responses=failing, response_model=None)
    for path, probe in (("/livez", livez), ("/readyz", readyz)):
        routes.add_api_route(path, probe, methods=["HEAD"], include_in_schema=False, response_model=None)
    return routes


async def livez(services: Given) -> Response:
    """Tell whether every loop makes progress. Passes over an outage of the database, which no restart would end."""
    return _answer(liveness(services))


def readyz(request: Request, services: Given) -> Response:
    """Tell whether work can be done: the database is there, can be written to and has our schema, and loops turn."""
    prober: Prober = request.app.state.prober
    authenticator: Authenticator = request.app.state.authenticator
    named = authenticator.caller(request.scope["headers"]) is not None
    return _answer(prober.ask(lambda: readiness(services)), named=named)


class Prober:
    """Asks one question at a time, so that a crowd of probes takes one connection of the database.

    Whoever asks is told what was found after they asked, by themselves or by another.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: tuple[float, Health] | None = None

    def ask(self, question: Callable[[], Health]) -> Health:
        """Return the answer to a question that was put no sooner than now."""
        asked = time.monotonic()
        with self._lock:
            if self._found is None or self._found[0] < asked:
                self._found = (time.monotonic(), question())
            return self._found[1]


def liveness(services: Services) -> Health:
    """Return the state of the loops; those that wait for the database are passed over."""
    loops = services.loops()
    return Health(findings=stuck_loops([loop for loop in loops if loop.needs_restart]), loops=loops)


def readiness(services: Services) -> Health:
    """Return everything that keeps work from being done.

    One look answers all questions. If it fails, each is asked by itself, so that one that fails hides no other.
    """
    loops = services.loops()
    if not services.enabled:
        return _readiness_without_jobs(services, loops)
    look, failed = _look(services, loops)
    unfit = look.unfit if failed is None else _unfit(services, failed)
    if isinstance(failed, ConnectionLost) and not unfit:  # the server ended it, and answers on the next one
        look, failed = _look(services, loops)
        unfit = look.unfit if failed is None else _unfit(services, failed)
    counted: Mapping[str, Finding | None] = {"overdueSchedules": look.overdue, "unclaimableJobs": look.unclaimable}
    notices = look.deferred if failed is None or unfit else _notices(services)
    return Health(
        findings=[
            *_with_own(services, loops, unfit),
            *look.lacking,
            *filter(None, (look.refused, look.stuck_handlers)),
        ],
        loops=loops,
        verdict=look.verdict,
        notices=() if unfit else notices,
        counted={} if unfit else counted if failed is None else dict(_counted(services)),
    )


def _readiness_without_jobs(services: Services, loops: Sequence[LoopAge]) -> Health:
    """Return what keeps a disabled daemon from pruning webhook deliveries. It needs none of our tables for that."""
    try:
        with probing(services.database, DATABASE_S) as conn:
            unfit = list(unwritable_database(conn))
    except AybJobsError as error:
        unfit = [_told(error)]
    found = _with_own(services, loops, unfit)
    return Health(findings=found, loops=loops, verdict=decide(found, None) if found else DISABLED)


def _with_own(services: Services, loops: Sequence[LoopAge], found: Sequence[Finding]) -> list[Finding]:
    """Return what was found, and what this daemon finds of itself."""
    draining = [stopping()] if services.draining() else []
    return [*loops_without_room(loops), *stuck_loops(loops), *found, *draining, *troubled_loops(loops)]


def judge(services: Services) -> Verdict:
    """Return how things stand, as far as the database says it in time."""
    return _look(services, services.loops())[0].verdict


def _look(services: Services, loops: Sequence[LoopAge]) -> tuple[Look, AybJobsError | None]:
    """Look at everything at once; return the error beside a verdict on it if the database does not answer in time."""
    try:
        with probing(services.database, DATABASE_S) as conn:
            lacking = [replace(each, severity=Severity.FAILING) for each in rights(conn)]
            look = look_round(conn, services.config.retention, [*_with_own(services, loops, []), *lacking])
            return replace(look, lacking=lacking), None
    except AybJobsError as error:
        if not isinstance(error, DatabaseError):
            services.events.emit(RequestFailed(request="a look at how things stand", error=error.__cause__ or error))
        return Look(verdict=decide(_with_own(services, loops, [_told(error)]), None)), error


def _told(error: AybJobsError) -> Finding:
    return outage(error) if isinstance(error, DatabaseError) else unanswered(error)


def _unfit(services: Services, failed: AybJobsError) -> list[Finding]:
    """Return what keeps work from being done, after a look that `failed`."""
    try:
        with probing(services.database, DATABASE_S) as conn:
            unfit = list(unfit_database(conn))
    except DatabaseError as error:
        return [outage(error)]
    return unfit or ([_told(failed)] if lacks_what_work_needs(failed) else [])


def _counted(services: Services) -> Iterator[tuple[str, Finding | None]]:
    """Yield what each counting check finds, but for those to which the database does not answer in time."""
    for name, check in COUNTED.items():
        with suppress(AybJobsError), probing(services.database, DATABASE_S) as conn:
            yield name, check(conn)


def _notices(services: Services) -> list[Finding]:
    try:
        with probing(services.database, DATABASE_S) as conn:
            return deferred(conn, services.config.retention)
    except AybJobsError:
        return []


def _answer(health: Health, *, named: bool = False) -> Response:
    return Response(health.text(named=named), 200 if health.ok else 503, media_type="application/json")
