"""How the API says no: `{"code", "message", "data"?, "doc_url"?}` in AYB's shape, whatever went wrong."""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from ayb_jobs.errors import AybJobsError, Conflict, DatabaseError, InvalidInput, NotFound
from ayb_jobs.wire.names import api_name

INTERNAL = "an internal error occurred; the log has the details"
NOT_ENABLED = "jobs are not enabled; set jobs.enabled = true (or AYB_JOBS_ENABLED=true) and start the daemon again"

Handler = Callable[[Request, Exception], Awaitable[Response]]


class FieldProblem(BaseModel):
    """What is wrong with one field."""

    code: str
    message: str


class Problem(BaseModel):
    """An error: `code` is the HTTP status, `data` says what is wrong with which field."""

    code: int
    message: str
    data: dict[str, FieldProblem] | None = Field(default=None, json_schema_extra={"type": "object"})
    doc_url: str | None = None


class Refused(AybJobsError):
    """The request was refused before it reached the queue; `status` is the HTTP status to answer with."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers


class InvalidBody(InvalidInput):
    """Fields of the body are wrong; `problems` maps each to a code and a message."""

    def __init__(self, problems: Mapping[str, tuple[str, str]]) -> None:
        super().__init__(summary(problems))
        self.problems = problems


def problem_text(status: int, message: str, fields: Mapping[str, tuple[str, str]] | None = None) -> bytes:
    """Return the JSON of an error; `fields` maps a field to the code and message of what is wrong with it."""
    body: dict[str, object] = {"code": status, "message": message}
    if fields:
        body["data"] = {name: {"code": code, "message": text} for name, (code, text) in fields.items()}
    return json.dumps(body, allow_nan=False).encode()


def problem(
    status: int,
    message: str,
    fields: Mapping[str, tuple[str, str]] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return an error as a response."""
    content = problem_text(status, message, fields)
    return Response(content, status, headers, media_type="application/json")


def answer_errors(app: FastAPI) -> None:
    """Have every error that a route raises answered in the one shape."""
    handlers: Mapping[type[Exception], Handler] = {
        AybJobsError: _answer_ours,
        HTTPException: _answer_starlette,
        RequestValidationError: _answer_validation,
        Exception: _answer_unforeseen,  # which starlette raises again, for the guard to report
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


async def _answer_ours(_request: Request, error: Exception) -> Response:
    message = str(error)
    match error:
        case Refused():
            return problem(error.status, message, headers=error.headers)
        case InvalidInput():
            return problem(400, message, _fields_of(error))
        case NotFound():
            return problem(404, message)
        case Conflict():
            return problem(409, message)
        case DatabaseError():
            return problem(503, message, headers={"Retry-After": "1"})
        case _:
            return await _answer_unforeseen(_request, error)


async def _answer_unforeseen(_request: Request, _error: Exception) -> Response:
    return problem(500, INTERNAL)


def _fields_of(error: InvalidInput) -> Mapping[str, tuple[str, str]]:
    if isinstance(error, InvalidBody):
        return error.problems
    return {api_name(error.field): ("invalid", str(error))} if error.field else {}


async def _answer_starlette(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class alone
    match error.status_code:
        case 404:
            message = f"there is nothing at {request.url.path}"
        case 405:
            message = f"{request.method} is not allowed at {request.url.path}"
        case _:
            message = error.detail
    return problem(error.status_code, message, headers=error.headers)


async def _answer_validation(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class alone
    fields = field_problems(error.errors())
    return problem(400, summary(fields), fields)


def field_problems(errors: Sequence[Mapping[str, object]]) -> dict[str, tuple[str, str]]:
    """Return pydantic's errors by field, named as the caller named it."""
    problems: dict[str, tuple[str, str]] = {}
    for error in errors:
        location = error["loc"]
        parts = [str(part) for part in location] if isinstance(location, tuple) else [str(location)]
        if len(parts) > 1 and parts[0] in {"query", "path", "body", "header"}:
            parts = parts[1:]
        name = parts[0].encode("utf-8", "replace").decode() if parts else "body"
        problems.setdefault(name[:100], (str(error["type"]), str(error["msg"])))
    return problems


def summary(fields: Mapping[str, tuple[str, str]]) -> str:
    """Return one line that names each field and what is wrong with it."""
    return "; ".join(f"{name}: {message}" for name, (_, message) in fields.items()) or "the request is invalid"
