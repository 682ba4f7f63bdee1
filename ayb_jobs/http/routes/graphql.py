"""Barycenter's admin queries: `POST /admin/jobs`."""

import json
from functools import cache
from importlib import import_module
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from ayb_jobs.http.requests import GUARDED, Body, Given, RawBody, Reader, documented, documented_body, read_body
from ayb_jobs.http.shapes import answer


class Document(Body):
    """A GraphQL request."""

    query: str = Field(min_length=1)
    variables: dict[str, Any] | None = None
    operation_name: str | None = None


class AnswerShape(BaseModel):
    """A GraphQL answer."""

    data: dict[str, Any] | None = None
    errors: list[dict[str, Any]] | None = None


def router() -> APIRouter:
    """Return the route of Barycenter's admin queries."""

    @cache
    def executor(*, introspection: bool) -> Any:
        return import_module("ayb_jobs.http.routes.graphql_schema").Executor(introspection=introspection)

    def execute(request: Request, services: Given, caller: Reader, raw: RawBody) -> Response:
        """Execute a GraphQL document; its errors are in the answer, with status 200."""
        asked = read_body(raw, Document)
        with_token = not request.app.state.authenticator.open
        run = executor(introspection=with_token)
        return answer(json.dumps(run(services, caller, asked.query, asked.variables, asked.operation_name)))

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
