"""Retrying and cancelling many jobs at once, in short batches, or counting what would be changed."""

from typing import Literal

from fastapi import APIRouter, Response
from pydantic import ConfigDict, Field, JsonValue
from pydantic.alias_generators import to_camel

from ayb_jobs.http.acting import acting_in_steps
from ayb_jobs.http.parsing import OURS, Body, instant_of, read_body
from ayb_jobs.http.requests import (
    GUARDED,
    Given,
    Operator,
    RawBody,
    cursor_of,
    documented,
    documented_body,
    place_after,
)
from ayb_jobs.http.shapes import Shape, answer
from ayb_jobs.model.checked import MAX_IDEMPOTENCY_KEY, MAX_NAME
from ayb_jobs.model.filters import MAX_ERROR, Filter
from ayb_jobs.operations.bulk import BulkAction, Changed, change, count
from ayb_jobs.storage.requests import reading
from ayb_jobs.wire.jobs import bulk_text

INSTANT: dict[str, JsonValue] = {"format": "date-time"}


class BulkBody(Body):
    """Which jobs, and what becomes of them: failed ones are retried, queued ones or running ones canceled.

    `since` and `until` bound when a job was created. `error` is a part of its last error, in any case of letters, and
    `alike` the first line of it, with `<n>` for each number and id. With `cursor`, only those behind the ones that an
    earlier call has seen, whose `nextCursor` it is.
    """

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", strict=True)

    action: Literal["retry", "cancel", "cancel_running"]
    type: str | None = Field(default=None, min_length=1, max_length=MAX_NAME)
    queue: str | None = Field(default=None, min_length=1, max_length=MAX_NAME)
    idempotency_key: str | None = Field(default=None, min_length=1, max_length=MAX_IDEMPOTENCY_KEY)
    batch_id: str | None = None
    since: str | None = Field(default=None, json_schema_extra=INSTANT)
    until: str | None = Field(default=None, json_schema_extra=INSTANT)
    error: str | None = Field(default=None, min_length=1, max_length=MAX_ERROR)
    alike: str | None = Field(default=None, min_length=1, max_length=MAX_ERROR)
    cursor: str | None = None
    dry_run: bool = False


class BulkShape(Shape):
    """How many jobs were changed, or would be; if `done` is false, call again with `nextCursor` for the rest."""

    action: str
    dry_run: bool
    count: int
    done: bool
    next_cursor: str | None = None


def router() -> APIRouter:
    """Return the route of bulk changes."""
    routes = APIRouter(prefix="/api/admin/jobs/bulk", tags=["jobs"], dependencies=GUARDED)
    routes.add_api_route(
        "",
        change_many,
        methods=["POST"],
        summary="Retry or cancel jobs by filter",
        dependencies=OURS,
        openapi_extra=documented_body(BulkBody),
        **documented(BulkShape, "How many jobs were changed, or would be"),
    )
    return routes


def change_many(services: Given, caller: Operator, body: RawBody) -> Response:
    """Retry all failed jobs that match, or cancel all queued or running ones, 1,000 in each transaction."""
    asked = read_body(body, BulkBody)
    action, wanted = BulkAction(asked.action), _filter(asked)
    if asked.dry_run:
        with reading(services.database, services.read_timeout_s) as conn:
            found = Changed(count=count(conn, action, wanted))
    else:
        begin, actor = acting_in_steps(services, caller)
        found = change(begin, action, wanted, actor=actor, after=place_after(asked.cursor or ""))
    rest = cursor_of(found.next)
    return answer(bulk_text(action, count=found.count, next_cursor=rest, dry_run=asked.dry_run))


def _filter(asked: BulkBody) -> Filter:
    return Filter(
        type=asked.type,
        queue=asked.queue,
        key=asked.idempotency_key,
        batch_id=asked.batch_id,
        since=instant_of(asked.since, "since"),
        until=instant_of(asked.until, "until"),
        error=asked.error,
        alike=asked.alike,
    )
