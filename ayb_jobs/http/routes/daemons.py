"""Who is alive, over HTTP."""

from fastapi import APIRouter, Response

from ayb_jobs.http.parsing import OURS
from ayb_jobs.http.requests import GUARDED, Given, documented
from ayb_jobs.http.shapes import WorkerPage, answer
from ayb_jobs.model.instants import instant_text
from ayb_jobs.storage.clock import now
from ayb_jobs.storage.fleet.daemons import list_daemons
from ayb_jobs.storage.requests import reading
from ayb_jobs.wire.daemons import daemon_text
from ayb_jobs.wire.text import page_text


def router() -> APIRouter:
    """Return the route of the daemons."""
    routes = APIRouter(prefix="/api/admin/workers", tags=["workers"], dependencies=GUARDED)
    routes.add_api_route(
        "",
        list_alive,
        summary="List daemons",
        dependencies=OURS,
        **documented(WorkerPage, "The daemons that are alive"),
    )
    return routes


def list_alive(services: Given) -> Response:
    """List the daemons that were heard of within the last minute, and the jobs that each runs now.

    `now` is the database's clock.
    """
    with reading(services.database, services.read_timeout_s) as conn:
        return answer(page_text(map(daemon_text, list_daemons(conn)), now=instant_text(now(conn))))
