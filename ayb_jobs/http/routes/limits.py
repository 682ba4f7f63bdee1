"""Limits over HTTP: what waits and runs under each, setting and removing them."""

from typing import Annotated

from fastapi import APIRouter, Path, Response
from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from ayb_jobs.errors import NotFound
from ayb_jobs.http.acting import acting
from ayb_jobs.http.parsing import OURS, Body, read_body
from ayb_jobs.http.requests import GUARDED, Given, Operator, RawBody, documented, documented_body
from ayb_jobs.http.shapes import LimitPage, LimitShape, answer
from ayb_jobs.model.limits import MOST
from ayb_jobs.operations import limits as operations
from ayb_jobs.storage.fleet.limits import find_limit, list_limits
from ayb_jobs.storage.requests import reading
from ayb_jobs.wire.limits import limit_text, new_limit
from ayb_jobs.wire.text import page_text

Name = Annotated[str, Path(alias="id", description="The limit's name")]


class LimitBody(Body):
    """What a limit allows; what is left out is not limited."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", strict=True)

    types: list[str] = Field(min_length=1)
    key_field: str | None = Field(default=None, min_length=1, max_length=100)
    max_running: int | None = Field(default=None, ge=0, le=MOST)
    key_max_running: int | None = Field(default=None, ge=0, le=MOST)
    rate: str | None = None
    burst: int | None = Field(default=None, ge=1, le=MOST)
    key_rate: str | None = None
    key_burst: int | None = Field(default=None, ge=1, le=MOST)


def router() -> APIRouter:
    """Return the routes below /api/admin/limits."""
    routes = APIRouter(prefix="/api/admin/limits", tags=["limits"], dependencies=[*GUARDED, *OURS])
    routes.add_api_route(
        "", list_all, name="list_limits", summary="List limits", **documented(LimitPage, "The limits, by name")
    )
    good = documented(LimitShape, "The limit as it is now", 404)
    routes.add_api_route("/{id:path}", show, name="show_limit", summary="Show a limit", **good)
    routes.add_api_route(
        "/{id:path}",
        put,
        name="set_limit",
        methods=["PUT"],
        summary="Set a limit",
        openapi_extra=documented_body(LimitBody),
        **documented(LimitShape, "The limit as it is now", 404, 409),
    )
    routes.add_api_route(
        "/{id:path}",
        remove,
        name="remove_limit",
        methods=["DELETE"],
        summary="Remove a limit",
        **documented(LimitShape, "The limit as it was", 404),
    )
    return routes


def list_all(services: Given) -> Response:
    """List limits, with what waits and runs under each."""
    with reading(services.database, services.read_timeout_s) as conn:
        return answer(page_text(map(limit_text, list_limits(conn))))


def show(services: Given, name: Name) -> Response:
    """Show one; `waitingFor` names the live daemons that have not confirmed it."""
    with reading(services.database, services.read_timeout_s) as conn:
        found = find_limit(conn, name)
    if found is None:
        raise NotFound(f"there is no limit {name}")
    return answer(limit_text(found))


def put(services: Given, caller: Operator, name: Name, body: RawBody) -> Response:
    """Make a limit, or change it; once `waitingFor` is empty, nothing starts beside it. What runs goes on."""
    asked = read_body(body, LimitBody)
    new = new_limit(name, asked.model_dump(by_alias=True))
    with acting(services, caller) as (conn, actor):
        return answer(limit_text(operations.put(conn, new, actor=actor)))


def remove(services: Given, caller: Operator, name: Name) -> Response:
    """Remove a limit: what waits under it waits as other jobs do."""
    with acting(services, caller) as (conn, actor):
        return answer(limit_text(operations.remove(conn, name, actor=actor)))
