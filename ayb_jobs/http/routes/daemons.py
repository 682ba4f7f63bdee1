"""Who is alive, and draining a daemon, over HTTP."""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from ayb_jobs.http.acting import acting
from ayb_jobs.http.parsing import OURS
from ayb_jobs.http.requests import GUARDED, Admin, Given, documented
from ayb_jobs.http.shapes import WorkerPage, WorkerShape, answer
from ayb_jobs.model.instants import instant_text
from ayb_jobs.operations import daemons as operations
from ayb_jobs.storage.clock import now
from ayb_jobs.storage.fleet.daemons import list_daemons
from ayb_jobs.storage.requests import reading
from ayb_jobs.wire.daemons import daemon_text
from ayb_jobs.wire.text import page_text

Name = Annotated[str, Path(alias="id", description="The daemon's id, or a part that no other live daemon's has")]


def router() -> APIRouter:
    """Return the routes of the daemons."""
    routes = APIRouter(prefix="/api/admin", tags=["workers"], dependencies=[*GUARDED, *OURS])
    routes.add_api_route(
        "/workers",
        list_alive,
        summary="List daemons",
        **documented(WorkerPage, "The daemons that are alive"),
    )
    routes.add_api_route(
        "/daemons/{id:path}/drain",
        drain,
        name="drain_daemon",
        methods=["POST"],
        summary="Drain a daemon",
        **documented(WorkerShape, "The daemon, which takes no more jobs and ends when its handlers have", 404, 409),
    )
    return routes


def list_alive(services: Given) -> Response:
    """List the daemons that were heard of within the last minute, and the jobs that each runs now.

    `now` is the database's clock.
    """
    with reading(services.database, services.read_timeout_s) as conn:
        return answer(page_text(map(daemon_text, list_daemons(conn)), now=instant_text(now(conn))))


def drain(services: Given, caller: Admin, name: Name) -> Response:
    """Have it take no more jobs, and end when its handlers have."""
    with acting(services, caller) as (conn, actor):
        return answer(daemon_text(operations.drain(conn, name, actor=actor)))
