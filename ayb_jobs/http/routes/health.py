"""Is the daemon alive, and is it ready? For probes over HTTP and for `ayb-jobs health`."""

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response

from ayb_jobs.checks.database import outage, unfit_database
from ayb_jobs.checks.finding import Finding, facts
from ayb_jobs.checks.fleet import unclaimable
from ayb_jobs.checks.loops import LoopAge, stuck_loops
from ayb_jobs.checks.retention import deferred
from ayb_jobs.checks.schedules import overdue
from ayb_jobs.errors import AybJobsError, DatabaseError
from ayb_jobs.http.requests import Given
from ayb_jobs.http.services import Services
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.requests import probing

DATABASE_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """An answer to a probe: well if there is no reason against it.

    `notices` tell what an operator should know in time. `overdue` schedules, and due jobs that are `unclaimable` since
    no live daemon can run them, are told and are no such reason: taking a daemon out of service would not make them
    run.
    """

    reasons: Sequence[str]
    loops: Sequence[LoopAge]
    overdue: int | None = None
    unclaimable: int | None = None
    notices: Sequence[str] = ()

    @property
    def ok(self) -> bool:
        """Whether all is well."""
        return not self.reasons

    def text(self) -> str:
        """Return the answer as JSON."""
        loops = {loop.name: {"ageSec": round(loop.age_s, 3), "limitSec": loop.limit_s} for loop in self.loops}
        answer: dict[str, Any] = {
            "status": "ok" if self.ok else "failing",
            "reasons": list(self.reasons),
            "loops": loops,
        }
        counts = {"overdueSchedules": self.overdue, "unclaimableJobs": self.unclaimable}
        answer |= {name: count for name, count in counts.items() if count is not None}
        return json.dumps(answer | ({"notices": list(self.notices)} if self.notices else {}))


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
    return _answer(prober.ask(lambda: readiness(services)))


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
    return Health(reasons=facts(stuck_loops([loop for loop in loops if loop.needs_restart])), loops=loops)


def readiness(services: Services) -> Health:
    """Return everything that keeps work from being done."""
    loops = services.loops()
    unfit = _unfit(services)
    reasons = facts([*stuck_loops(loops), *unfit])
    if services.draining():
        reasons.append("the daemon is stopping")
    return Health(
        reasons=reasons,
        loops=loops,
        notices=() if unfit or not services.enabled else _notices(services),
        overdue=None if unfit else _counted(services, overdue),
        unclaimable=None if unfit else _counted(services, unclaimable),
    )


def _unfit(services: Services) -> list[Finding]:
    try:
        with probing(services.database, DATABASE_S) as conn:
            return list(unfit_database(conn))
    except DatabaseError as error:
        return [outage(error)]


def _counted(services: Services, check: Callable[[Connection], Finding | None]) -> int | None:
    """Return how many a check finds, or None if the database does not say it in time."""
    try:
        with probing(services.database, DATABASE_S) as conn:
            found = check(conn)
    except AybJobsError:
        return None
    return int(found.evidence["count"]) if found else 0


def _notices(services: Services) -> list[str]:
    try:
        with probing(services.database, DATABASE_S) as conn:
            return [each.fact for each in deferred(conn, services.config.retention)]
    except AybJobsError:
        return []


def _answer(health: Health) -> Response:
    return Response(health.text(), 200 if health.ok else 503, media_type="application/json")
