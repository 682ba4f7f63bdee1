"""Every page of the dashboard."""

from functools import partial

from fastapi import APIRouter, Request, Response

from ayb_jobs.http.dashboard import (
    audit,
    batches,
    bulk,
    daemons,
    enqueueing,
    executions,
    grouping,
    job,
    jobs,
    limits,
    login,
    overview,
    queues,
    schedule,
    schedules,
)
from ayb_jobs.http.dashboard.assets import Assets
from ayb_jobs.http.dashboard.errors import PageRoute
from ayb_jobs.http.dashboard.packing import VARY, takes_gzip
from ayb_jobs.http.dashboard.session import Sessions
from ayb_jobs.http.dashboard.shared import Shared
from ayb_jobs.http.dashboard.shell import Pages, Visitor
from ayb_jobs.http.dashboard.standing import look
from ayb_jobs.http.edge.auth import Authenticator
from ayb_jobs.http.edge.problems import Refused
from ayb_jobs.http.routes.health import judge
from ayb_jobs.http.routes.stream import changes_of
from ayb_jobs.http.services import Services

# In this order, since /jobs/{id} would take whatever comes after it.
SUBJECTS = (
    overview,
    login,
    jobs,
    bulk,
    job,
    grouping,
    schedules,
    schedule,
    executions,
    batches,
    queues,
    limits,
    daemons,
    audit,
    enqueueing,
)
FOR_EVER = "public, max-age=31536000, immutable"


def pages_of(services: Services, authenticator: Authenticator) -> Pages:
    """Return what the pages stand on."""
    pulse = Shared(partial(judge, services))
    return Pages(
        services=services,
        sessions=Sessions(authenticator),
        pulse=pulse,
        standing=Shared(partial(look, services, pulse)),
    )


def router() -> APIRouter:
    """Return the routes of the dashboard."""
    routes = APIRouter(include_in_schema=False, route_class=PageRoute, default_response_class=Response)
    for subject in SUBJECTS:
        subject.add_to(routes)
    routes.add_api_route("/live", live, methods=["GET"], response_model=None)
    routes.add_api_route("/static/{name}", asset, methods=["GET"], response_model=None)
    return routes


async def live(visit: Visitor, request: Request) -> Response:
    """Send an event for each job that changes, as the API's stream does, until the visitor's session ends."""
    return changes_of(request, visit.services, visit.is_still_let_in)


async def asset(name: str, request: Request) -> Response:
    """Give a file of the dashboard; its address changes with its content, so that it may be kept for ever."""
    assets: Assets = request.app.state.dashboard.assets
    if name not in assets.content:
        raise Refused(404, f"there is nothing at /static/{name}")
    kind = assets.TYPES[name.rpartition(".")[2]]
    headers = {"Cache-Control": FOR_EVER, "Vary": VARY}
    if takes_gzip(request):
        return Response(assets.packed[name], media_type=kind, headers={**headers, "Content-Encoding": "gzip"})
    return Response(assets.content[name], media_type=kind, headers=headers)
