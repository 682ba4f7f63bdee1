"""What routes share: the services behind them, who calls, and how a body and a query are read."""

import base64
import json
import math
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, NoReturn, TypeVar

from fastapi import Depends, Query, Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from ayb_jobs.errors import InvalidInput
from ayb_jobs.http.edge.auth import Caller, Scope, requires
from ayb_jobs.http.edge.problems import NOT_ENABLED, InvalidBody, Problem, Refused, field_problems
from ayb_jobs.http.services import Services
from ayb_jobs.model.job import checked_id
from ayb_jobs.storage.queue.jobs import Position

MAX_PAGE = 500
DEFAULT_PAGE = 50
MAX_OFFSET = 10**15

Model = TypeVar("Model", bound=BaseModel)

Reader = Annotated[Caller, Depends(requires(Scope.READ))]
Operator = Annotated[Caller, Depends(requires(Scope.OPERATE))]
Admin = Annotated[Caller, Depends(requires(Scope.ADMIN))]


class Body(BaseModel):
    """A request's body, in camelCase."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=False, strict=True)


def given_or(default: int) -> BeforeValidator:
    """Have an empty parameter mean the default, as one that is left out: forms send the fields that nobody filled in."""
    return BeforeValidator(lambda value: default if value == "" else value)


Limit = Annotated[int, given_or(DEFAULT_PAGE), Query(description="At most 500; below 1 means 50")]
Offset = Annotated[int, given_or(0), Query(description="Rows to skip; a cursor is quicker")]


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


def read_body(body: bytes, model: type[Model], *, ignoring: Collection[str] = ()) -> Model:
    """Return a body as a model; raises `InvalidInput` or `InvalidBody` saying which field is wrong and how."""
    fields = {name: value for name, value in decode_object(body).items() if name not in ignoring}
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise InvalidBody(field_problems([dict(part) for part in error.errors()])) from None


def decode_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object that a body holds, or raise `InvalidInput`."""
    try:
        value = json.loads(body, parse_constant=_refuse_constant, parse_float=_finite)
    except RecursionError:
        raise InvalidInput("the body is nested too deeply") from None
    except ValueError as error:
        raise InvalidInput(f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidInput("the body is not a JSON object")
    return value


def _finite(digits: str) -> float:
    """Return a number, or raise `ValueError` where it lies beyond those that can be computed with."""
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits[:20]} is too large a number")
    return number


def page_size(limit: int) -> int:
    """Return how many items a page holds: AYB's rule, at most 500, and 50 for anything below 1."""
    return DEFAULT_PAGE if limit <= 0 else min(limit, MAX_PAGE)


def row_offset(offset: int) -> int:
    """Return an offset that the database takes."""
    return min(max(offset, 0), MAX_OFFSET)


def cursor_text(position: Position) -> str:
    """Return a place between two pages, as callers carry it."""
    return base64.urlsafe_b64encode(f"{position.created_at.isoformat()} {position.id}".encode()).decode().rstrip("=")


def read_cursor(cursor: str) -> Position:
    """Return the place that `cursor_text` wrote, or raise `InvalidInput`."""
    try:
        at, _, job_id = base64.urlsafe_b64decode(cursor.encode("ascii") + b"==").decode("ascii").partition(" ")
        return Position(datetime.fromisoformat(at).astimezone(UTC), checked_id(job_id))
    except (ValueError, OverflowError, InvalidInput):
        raise InvalidInput("cursor is none that this API gave; take it from nextCursor", field="cursor") from None


def documented(
    model: type[BaseModel] | None,
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


def documented_body(model: type[BaseModel]) -> dict[str, Any]:
    """Return what the OpenAPI document says of a route's body."""
    schema = model.model_json_schema()
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


REASONS: Mapping[int, str] = {
    400: "A value is wrong; `data` says which",
    401: "No valid token was shown",
    403: "The token's scope is too small, or the Host or Origin is not allowed",
    404: "There is no such thing",
    409: "Its state does not allow it",
    413: "The body is larger than 1 MiB",
    503: "Jobs are disabled, or the database cannot answer",
}


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
