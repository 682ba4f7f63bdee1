"""Barycenter's admin queries: `POST /admin/jobs`."""

import json
from collections.abc import Callable
from functools import cache
from typing import Any

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from ayb_jobs.http.edge.problems import Refused
from ayb_jobs.http.parsing import Body, read_body
from ayb_jobs.http.requests import GUARDED, Given, RawBody, Reader, documented, documented_body
from ayb_jobs.http.shapes import answer

# Documents are executed in threads of their own, so that no crowd of them keeps a probe waiting.
THREADS = 4
MOST_WAITING = 100


class Document(Body):
    """A GraphQL request; keys that it does not have are passed over, as GraphQL's clients send some."""

    theirs = frozenset({"query", "variables", "operationName"})

    query: str = Field(min_length=1)
    variables: dict[str, Any] | None = None
    operation_name: str | None = None


class AnswerShape(BaseModel):
    """A GraphQL answer."""

    data: dict[str, Any] | None = None
    errors: list[dict[str, Any]] | None = None


def threads() -> CapacityLimiter:
    """Return the threads in which one server executes documents."""
    return CapacityLimiter(THREADS)


def router() -> APIRouter:
    """Return the route of Barycenter's admin queries."""
    routes = APIRouter(tags=["graphql"], dependencies=GUARDED)
    routes.add_api_route(
        "/admin/jobs",
        execute,
        methods=["POST"],
        summary="Barycenter's GraphQL",
        openapi_extra=documented_body(Document),
        **documented(AnswerShape, "`data`, and `errors` where there are any"),
    )
    return routes


async def execute(request: Request, services: Given, caller: Reader, raw: RawBody) -> Response:
    """Execute a GraphQL document; its errors are in the answer, with status 200."""
    limiter: CapacityLimiter = request.app.state.graphql_threads
    if limiter.statistics().tasks_waiting >= MOST_WAITING:
        raise Refused(503, "too many documents wait already; try again in a second", {"Retry-After": "1"})
    with_token = not request.app.state.authenticator.open

    def run() -> str:
        asked = read_body(raw, Document)
        execute = executor(introspection=with_token)
        return json.dumps(
            execute(services, caller, asked.query, asked.variables, asked.operation_name), allow_nan=False
        )

    return answer(await run_sync(run, limiter=limiter))


@cache
def executor(*, introspection: bool) -> Callable[..., Any]:
    """Return what executes documents; it is made when the first one comes, since graphql-core is large."""
    from ayb_jobs.http.routes.graphql_schema import Executor  # noqa: PLC0415 - most daemons are asked no GraphQL

    return Executor(introspection=introspection)
