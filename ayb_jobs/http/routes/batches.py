"""Batches over HTTP: how far each is; making, sealing and cancelling them."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Response
from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from ayb_jobs.errors import InvalidInput
from ayb_jobs.http.acting import acting, acting_in_steps
from ayb_jobs.http.parsing import DEFAULT_PAGE, OURS, Body, Limit, as_object, decode, read_object
from ayb_jobs.http.requests import GUARDED, Given, Operator, RawBody, documented, documented_body, page_size
from ayb_jobs.http.routes.enqueueing import MOST_AT_ONCE, EnqueueBody, all_given
from ayb_jobs.http.shapes import BatchPage, BatchShape, answer
from ayb_jobs.model.batches import MAX_DESCRIPTION, BatchState
from ayb_jobs.model.checked import MAX_NAME, checked_id
from ayb_jobs.operations import batches as operations
from ayb_jobs.storage.queue.batch_views import get_batch, list_batches
from ayb_jobs.storage.requests import reading
from ayb_jobs.wire.batches import CALLBACKS, batch_text, new_batch
from ayb_jobs.wire.text import page_text

BatchId = Annotated[str, Path(alias="id", description="The batch's UUID")]
Running = Annotated[bool, Query(description="Also cancel its jobs that run: their handlers are told")]


class CallbackBody(Body):
    """What is enqueued at an event; its payload is given a field `batch`, which tells how the jobs ended."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", strict=True)

    type: str = Field(min_length=1, max_length=MAX_NAME)
    payload: Any = None
    queue: str = Field(default="default", min_length=1, max_length=MAX_NAME)
    priority: int = Field(default=2, ge=1, le=4)
    max_attempts: int = Field(default=3, ge=1, le=2**31 - 1)


class BatchBody(Body):
    """A batch: its jobs, and what is enqueued once all of them have ended. With `open`, more can be added later."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", strict=True)

    description: str | None = Field(default=None, max_length=MAX_DESCRIPTION)
    on_success: CallbackBody | None = None
    on_failure: CallbackBody | None = None
    on_done: CallbackBody | None = None
    jobs: list[EnqueueBody] = Field(default_factory=list, max_length=MOST_AT_ONCE)
    open: bool = False


class Unread(Body):
    """A body whose parts are read by themselves: payloads keep their digits."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", strict=True)

    description: str | None = Field(default=None, max_length=MAX_DESCRIPTION)
    on_success: Any = None
    on_failure: Any = None
    on_done: Any = None
    jobs: Any = None
    open: bool = False


def router() -> APIRouter:
    """Return the routes below /api/admin/batches."""
    routes = APIRouter(prefix="/api/admin/batches", tags=["batches"], dependencies=[*GUARDED, *OURS])
    routes.add_api_route(
        "", list_all, name="list_batches", summary="List batches", **documented(BatchPage, "Batches, the newest first")
    )
    routes.add_api_route(
        "",
        create,
        name="create_batch",
        methods=["POST"],
        summary="Make a batch of jobs",
        openapi_extra=documented_body(BatchBody),
        **documented(BatchShape, "The batch that was made", 409, success=201),
    )
    good = documented(BatchShape, "The batch as it is now", 404)
    routes.add_api_route("/{id}", show, name="show_batch", summary="Show a batch", **good)
    routes.add_api_route(
        "/{id}/seal", seal, name="seal_batch", methods=["POST"], summary="Let a batch end once its jobs have", **good
    )
    routes.add_api_route(
        "/{id}/cancel",
        cancel,
        name="cancel_batch",
        methods=["POST"],
        summary="Cancel the jobs of a batch",
        **documented(BatchShape, "The batch as it is now", 404, 409),
    )
    return routes


def list_all(
    services: Given,
    state: Annotated[Literal["", "open", "running", "succeeded", "failed"], Query()] = "",
    limit: Limit = DEFAULT_PAGE,
    before: Annotated[str, Query(description="nextBefore of the page before")] = "",
) -> Response:
    """List batches, the newest first."""
    size = page_size(limit)
    with reading(services.database, services.read_timeout_s) as conn:
        found = list_batches(
            conn,
            state=BatchState(state) if state else None,
            before=checked_id(before, "before") if before else None,
            limit=size,
        )
    return answer(page_text(map(batch_text, found), nextBefore=found[-1].id if len(found) == size else None))


def show(services: Given, batch_id: BatchId) -> Response:
    """Show one: how many of its jobs have ended, and what was called."""
    with reading(services.database, services.read_timeout_s) as conn:
        return answer(batch_text(get_batch(conn, batch_id)))


def create(services: Given, caller: Operator, body: RawBody) -> Response:
    """Make a batch of these jobs, all or nothing; `POST /api/admin/jobs` with `batchId` adds to one that is open."""
    sent = as_object(decode(body), "the body")
    asked = read_object({key: value for key, value in sent.items() if key not in {*CALLBACKS, "jobs"}}, Unread)
    callbacks = {key: _callback(key, sent[key]) for key in CALLBACKS if sent.get(key) is not None}
    jobs = sent.get("jobs", [])
    if not isinstance(jobs, list):
        raise InvalidInput("jobs is no list", field="jobs")
    new = new_batch({"description": asked.description, **callbacks})
    with acting(services, caller) as (conn, actor):
        made = operations.create(
            conn, new, list(all_given(jobs, None)), sealed=not asked.open, actor=actor, defaults=services.defaults
        )
    return answer(batch_text(made), 201)


def _callback(key: str, sent: Any) -> dict[str, Any]:
    asked = read_object(as_object(sent, key), CallbackBody)
    given = {"payload": asked.payload} if asked.payload is not None else {}
    return {
        "type": asked.type,
        **given,
        "queue": asked.queue,
        "priority": asked.priority,
        "maxAttempts": asked.max_attempts,
    }


def seal(services: Given, caller: Operator, batch_id: BatchId) -> Response:
    """Let it end once all its jobs have; more can still be added until then."""
    with acting(services, caller) as (conn, actor):
        return answer(batch_text(operations.seal(conn, batch_id, actor=actor)))


def cancel(services: Given, caller: Operator, batch_id: BatchId, *, running: Running = False) -> Response:
    """Cancel its queued jobs; it is done, and has failed, once none of its jobs runs."""
    begin, actor = acting_in_steps(services, caller)
    return answer(batch_text(operations.cancel(begin, batch_id, actor=actor, running=running)))
