"""Retrying and cancelling many jobs at once, in short batches, or counting what would be changed."""

import json
from collections.abc import Callable
from typing import Literal

from fastapi import APIRouter, Response
from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from ayb_jobs.http.edge.auth import Caller
from ayb_jobs.http.requests import GUARDED, Body, Given, Operator, RawBody, documented, documented_body, read_body
from ayb_jobs.http.services import Services
from ayb_jobs.http.shapes import Shape, answer
from ayb_jobs.model.job import MAX_NAME, JobState, checked_text
from ayb_jobs.storage.audit import record_deed
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue import bulk
from ayb_jobs.storage.requests import reading, writing
from ayb_jobs.wire.jobs import object_text

BATCH = 1000
# A call ends after so many jobs, with `done: false`, so that no client's timeout is reached.
MOST_BATCHES = 20


class BulkBody(Body):
    """Which jobs, and what becomes of them: failed ones are retried, queued ones canceled."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", strict=True)

    action: Literal["retry", "cancel"]
    type: str | None = Field(default=None, min_length=1, max_length=MAX_NAME)
    queue: str | None = Field(default=None, min_length=1, max_length=MAX_NAME)
    dry_run: bool = False


class BulkShape(Shape):
    """How many jobs were changed, or would be; where `done` is false, call again for the rest."""

    action: str
    dry_run: bool
    count: int
    done: bool


def router() -> APIRouter:
    """Return the route of bulk changes."""
    routes = APIRouter(prefix="/api/admin/jobs/bulk", tags=["jobs"], dependencies=GUARDED)
    routes.add_api_route(
        "",
        change_many,
        methods=["POST"],
        summary="Retry or cancel jobs by filter",
        openapi_extra=documented_body(BulkBody),
        **documented(BulkShape, "How many jobs were changed, or would be"),
    )
    return routes


def change_many(services: Given, caller: Operator, body: RawBody) -> Response:
    """Retry all failed jobs that match, or cancel all queued ones, in batches of 1,000, each a transaction of its own."""
    asked = read_body(body, BulkBody)
    for name in ("type", "queue"):
        checked_text(getattr(asked, name) or "", name, MAX_NAME)
    count, done = _count(services, asked) if asked.dry_run else _change(services, caller, asked)
    return answer(object_text({"action": asked.action, "dryRun": asked.dry_run, "count": count, "done": done}))


def _count(services: Services, asked: BulkBody) -> tuple[int, bool]:
    state = JobState.FAILED if asked.action == "retry" else JobState.QUEUED
    with reading(services.database, services.read_timeout_s) as conn:
        return bulk.count_jobs(conn, state=state, type=asked.type, queue=asked.queue), True


def _change(services: Services, caller: Caller, asked: BulkBody) -> tuple[int, bool]:
    change: Callable[..., bulk.Batch] = bulk.retry_jobs if asked.action == "retry" else bulk.cancel_jobs
    count, after = 0, None
    for _batch in range(MOST_BATCHES):
        with writing(services.database, services.write_timeout_s) as conn:
            batch = change(conn, type=asked.type, queue=asked.queue, limit=BATCH, after=after)
            if batch.rows:
                _record(conn, caller, asked, batch)
        count += batch.rows
        after = batch.next
        if after is None:
            return count, True
    return count, False


def _record(conn: Connection, caller: Caller, asked: BulkBody, batch: bulk.Batch) -> None:
    """Record a batch as one deed that names every job in it."""
    before, after = ("failed", "queued") if asked.action == "retry" else ("queued", "canceled")
    asked_for = {"type": asked.type, "queue": asked.queue, "ids": batch.ids}
    record_deed(
        conn,
        actor=caller.name,
        action=f"jobs.{asked.action}",
        before_text=json.dumps({**asked_for, "state": before}),
        after_text=json.dumps({"state": after}),
    )
