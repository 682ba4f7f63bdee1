"""Queues, job types and keys of limits over HTTP: what waits and runs, and pausing them."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path, Response
from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from ayb_jobs.http.acting import acting
from ayb_jobs.http.parsing import OURS, Body, instant_of, read_body
from ayb_jobs.http.requests import GUARDED, Given, Operator, RawBody, documented, documented_body
from ayb_jobs.http.shapes import PausablePage, PausableShape, answer
from ayb_jobs.model.pauses import MAX_REASON, NewPause, PauseKind
from ayb_jobs.operations import queues as operations
from ayb_jobs.storage.fleet.pausable import find_pausable, list_pausable
from ayb_jobs.storage.requests import reading
from ayb_jobs.wire.pauses import pausable_text
from ayb_jobs.wire.text import page_text

Name = Annotated[str, Path(alias="id", description="The queue's, the type's or the key's name; a key's is LIMIT/KEY")]


class PauseBody(Body):
    """Why, and until when; without `until`, until it is resumed."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", strict=True)

    reason: str | None = Field(default=None, max_length=MAX_REASON)
    until: str | None = Field(default=None, json_schema_extra={"format": "date-time"})


def router() -> APIRouter:
    """Return the routes below /api/admin/queues, /api/admin/types and /api/admin/keys."""
    routes = APIRouter(prefix="/api/admin", tags=["queues"], dependencies=[*GUARDED, *OURS])
    for kind, noun in ((PauseKind.QUEUE, "queue"), (PauseKind.TYPE, "job type"), (PauseKind.KEY, "limit's key")):
        _add(routes, kind, noun)
    return routes


def _add(routes: APIRouter, kind: PauseKind, noun: str) -> None:
    path = f"/{kind}s"
    good = documented(PausableShape, f"The {noun} as it is now", 404)  # a line break in the name
    routes.add_api_route(
        path,
        partial(list_all, kind),
        name=f"list_{kind}s",
        summary=f"List {noun}s",
        **documented(PausablePage, f"The {noun}s, by name"),
    )
    routes.add_api_route(
        f"{path}/{{id:path}}/pause",
        partial(pause, kind),
        name=f"pause_{kind}",
        methods=["POST"],
        summary=f"Pause a {noun}",
        openapi_extra=documented_body(PauseBody),
        **good,
    )
    routes.add_api_route(
        f"{path}/{{id:path}}/resume",
        partial(resume, kind),
        name=f"resume_{kind}",
        methods=["POST"],
        summary=f"Resume a {noun}",
        **documented(PausableShape, f"The {noun} as it is now", 404, 409),
    )
    routes.add_api_route(
        f"{path}/{{id:path}}", partial(show, kind), name=f"show_{kind}", summary=f"Show a {noun}", **good
    )


def list_all(kind: PauseKind, services: Given) -> Response:
    """List what has jobs, is served, or is paused."""
    with reading(services.database, services.read_timeout_s) as conn:
        found = list_pausable(conn, kind)
        return answer(page_text(map(pausable_text, found.first), atLeast=found.more))


def show(kind: PauseKind, services: Given, name: Name) -> Response:
    """Show one; `waitingFor` names the live daemons that have not confirmed its pause."""
    with reading(services.database, services.read_timeout_s) as conn:
        return answer(pausable_text(find_pausable(conn, kind, name)))


def pause(kind: PauseKind, services: Given, caller: Operator, name: Name, body: RawBody) -> Response:
    """Pause it; once `waitingFor` is empty, nothing of it starts. What runs goes on."""
    asked = read_body(body or b"{}", PauseBody)
    new = NewPause(kind=kind, name=name, reason=asked.reason or None, until=instant_of(asked.until, "until"))
    with acting(services, caller) as (conn, actor):
        return answer(pausable_text(operations.pause(conn, new, actor=actor)))


def resume(kind: PauseKind, services: Given, caller: Operator, name: Name) -> Response:
    """Let its jobs start again."""
    with acting(services, caller) as (conn, actor):
        return answer(pausable_text(operations.resume(conn, kind, name, actor=actor)))
