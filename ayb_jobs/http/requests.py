"""What routes share: the services behind them, who calls, pages, and what the OpenAPI document says of answers."""

import base64
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.openapi.constants import REF_TEMPLATE
from pydantic import BaseModel

from ayb_jobs.errors import InvalidInput
from ayb_jobs.http.edge.auth import Caller, Scope, requires
from ayb_jobs.http.edge.problems import NOT_ENABLED, Problem, Refused
from ayb_jobs.http.parsing import DEFAULT_PAGE, MAX_PAGE
from ayb_jobs.http.services import Services
from ayb_jobs.model.checked import checked_id
from ayb_jobs.model.instants import instant
from ayb_jobs.storage.queue.jobs import Position

MAX_OFFSET = 10**15
# An instant in UTC as PostgreSQL writes it, or with a T and minutes in its offset.
INSTANT = re.compile(r"-?infinity|\d{4,6}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d{1,6})?\+00(:00)?( BC)?", re.ASCII)

Reader = Annotated[Caller, Depends(requires(Scope.READ))]
Operator = Annotated[Caller, Depends(requires(Scope.OPERATE))]
Admin = Annotated[Caller, Depends(requires(Scope.ADMIN))]


async def services_of(request: Request) -> Services:
    """Return what the application stands on."""
    services: Services = request.app.state.services
    return services


async def body_of(request: Request) -> bytes:
    """Return the body; the guard has seen to its size."""
    return await request.body()


Given = Annotated[Services, Depends(services_of)]
RawBody = Annotated[bytes, Depends(body_of)]


async def only_enabled(services: Given) -> None:
    """Refuse with 503 while jobs are disabled."""
    if not services.enabled:
        raise Refused(503, NOT_ENABLED)


# Every route of jobs and schedules: a token first, so that strangers learn nothing, then jobs enabled.
GUARDED = [Depends(requires(Scope.READ)), Depends(only_enabled)]


def page_size(limit: int) -> int:
    """Return how many items a page holds: AYB's rule, at most 500, and 50 for anything below 1."""
    return DEFAULT_PAGE if limit <= 0 else min(limit, MAX_PAGE)


def row_offset(offset: int) -> int:
    """Return an offset that the database takes."""
    return min(max(offset, 0), MAX_OFFSET)


def cursor_of(position: Position | None) -> str | None:
    """Return a place between two pages, as callers carry it; None if there is no more."""
    if position is None:
        return None
    return base64.urlsafe_b64encode(f"{position.at} {position.id}".encode()).decode().rstrip("=")


def place_after(cursor: str) -> Position | None:
    """Return the place that `cursor_of` wrote, None for the beginning, or raise `InvalidInput`."""
    if not cursor:
        return None
    with suppress(ValueError, InvalidInput):
        at, _, job_id = base64.urlsafe_b64decode(cursor.encode("ascii") + b"==").decode("ascii").rpartition(" ")
        if INSTANT.fullmatch(at) and instant(at):
            return Position(at, checked_id(job_id))
    raise InvalidInput("cursor is none that this API gave; take it from nextCursor", field="cursor")


def documented(
    model: Any,
    description: str,
    *statuses: int,
    success: int = 200,
    also: Mapping[int, str] | None = None,
) -> dict[str, Any]:
    """Return what the OpenAPI document says of a route's answers: the good one, and the errors it may give."""
    content = {} if model is None else {"model": model}
    good = {status: {"description": text, **content} for status, text in {success: description, **(also or {})}.items()}
    errors = {
        status: {"model": Problem, "description": REASONS[status]} for status in {400, 401, 403, 413, 503, *statuses}
    }
    return {"responses": {**good, **dict(sorted(errors.items()))}, "status_code": success, "response_model": None}


def documented_body(model: type[BaseModel], *, most: int = 0, required: bool = True) -> dict[str, Any]:
    """Return what the OpenAPI document says of a route's body; it may be an array of up to `most` as well.

    What the schema refers to is in its `$defs`, until the whole document is made.
    """
    schema = model.model_json_schema(ref_template=REF_TEMPLATE)
    definitions = schema.pop("$defs", {})
    if most:
        schema = {"anyOf": [schema, {"type": "array", "items": schema, "maxItems": most}]}
    schema["$defs"] = definitions
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}


REASONS: Mapping[int, str] = {
    400: "A value is wrong; `data` says which",
    401: "No valid token was shown",
    403: "The token's scope is too small, or the Host or Origin is not allowed",
    404: "There is no such thing",
    409: "Its state does not allow it",
    413: "The body is larger than 1 MiB",
    503: "Jobs are disabled, or the database cannot answer",
}
