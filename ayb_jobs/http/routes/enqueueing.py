"""Enqueueing over HTTP: a job, or an array of them, all or none."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Response
from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from ayb_jobs.errors import InvalidInput
from ayb_jobs.http.acting import acting
from ayb_jobs.http.edge.auth import Caller
from ayb_jobs.http.edge.problems import InvalidBody
from ayb_jobs.http.parsing import OURS, Body, as_object, decode, instant_of, read_object
from ayb_jobs.http.requests import Given, Operator, RawBody, documented, documented_body
from ayb_jobs.http.services import Services
from ayb_jobs.http.shapes import EnqueuedShape, JobShape, answer
from ayb_jobs.model.checked import MAX_IDEMPOTENCY_KEY, MAX_LIMIT_KEY, MAX_NAME
from ayb_jobs.model.dependencies import MOST_PARENTS
from ayb_jobs.model.unique import MAX_UNIQUE_KEY
from ayb_jobs.operations import jobs as operations
from ayb_jobs.tracing import known_traceparent
from ayb_jobs.wire.jobs import job_text
from ayb_jobs.wire.new_jobs import unique_field
from ayb_jobs.wire.text import page_text

# Jobs of one array.
MOST_AT_ONCE = 1000


class EnqueueBody(Body):
    """A job to be enqueued; give `runAt` (an instant with its zone) or `delaySec`, or neither for now."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", strict=True)

    type: str = Field(min_length=1, max_length=MAX_NAME)
    payload: Any = None
    queue: str = Field(default="default", min_length=1, max_length=MAX_NAME)
    priority: int = Field(default=2, ge=1, le=4)
    max_attempts: int | None = Field(default=None, ge=1, le=2**31 - 1)
    run_at: str | None = Field(default=None, json_schema_extra={"format": "date-time"})
    delay_sec: float | None = Field(default=None, ge=0, le=10 * 365 * 86400)
    idempotency_key: str | None = Field(default=None, max_length=MAX_IDEMPOTENCY_KEY)
    limit_key: str | None = Field(default=None, max_length=MAX_LIMIT_KEY)
    unique_key: str | None = Field(default=None, min_length=1, max_length=MAX_UNIQUE_KEY)
    unique_by: list[str] | None = Field(default=None, min_length=1)
    unique_scope: Literal["unfinished", "waiting"] | None = None
    on_conflict: Literal["return", "reject", "replace", "debounce"] | None = None
    max_wait_sec: float | None = Field(default=None, gt=0, le=10 * 365 * 86400)
    depends_on: list[str] | None = Field(default=None, min_length=1, max_length=MOST_PARENTS)
    on_parent_failure: Literal["cancel", "run", "hold"] | None = None
    batch_id: str | None = None


def add_to(routes: APIRouter) -> None:
    """Add enqueueing to the routes below /api/admin/jobs."""
    routes.add_api_route(
        "",
        enqueue,
        methods=["POST"],
        summary="Enqueue a job, or an array of them",
        dependencies=OURS,
        openapi_extra=documented_body(EnqueueBody, most=MOST_AT_ONCE),
        **documented(
            JobShape | EnqueuedShape,
            "The job that was made; of an array, all of them, if any was made",
            409,
            success=201,
            also={200: "The job that has the key already; of an array, all of them, if none was made"},
        ),
    )


def enqueue(
    services: Given,
    caller: Operator,
    body: RawBody,
    idempotency_key: Annotated[
        str | None, Header(description="A second call with the same key answers with the first call's job")
    ] = None,
    traceparent: Annotated[str | None, Header(description="The W3C trace that the job belongs to")] = None,
) -> Response:
    """Enqueue a job, or an array of them, all or none.

    201 if one was made; 200 if all idempotency keys are taken, with the earlier jobs.
    """
    sent = decode(body)
    trace = {"traceparent": known_traceparent(traceparent)}
    if isinstance(sent, list):
        return _enqueue_many(services, caller, [given | trace for given in all_given(sent, idempotency_key)])
    asked = read_object(as_object(sent, "the body"), EnqueueBody)
    given = _given(asked) | trace | {"idempotency_key": _one_key(asked.idempotency_key, idempotency_key)}
    with acting(services, caller) as (conn, actor):
        made = operations.enqueue(conn, given, actor=actor, defaults=services.defaults)
    return answer(job_text(made.job), 201 if made.created else 200)


def _enqueue_many(services: Services, caller: Caller, given: list[dict[str, Any]]) -> Response:
    with acting(services, caller) as (conn, actor):
        made = operations.enqueue_many(conn, given, actor=actor, defaults=services.defaults)
    created = sum(one.created for one in made)
    return answer(page_text((job_text(one.job) for one in made), created=created), 201 if created else 200)


def all_given(sent: list[Any], header_key: str | None) -> Iterator[dict[str, Any]]:
    """Yield what each object of an array says, by the names of `NewJob`."""
    if len(sent) > MOST_AT_ONCE:
        raise InvalidInput(f"the array has {len(sent)} jobs; at most {MOST_AT_ONCE} are allowed")
    if header_key:
        raise InvalidInput("give each job of an array its own idempotencyKey, not the header", field="idempotency_key")
    for number, one in enumerate(sent):
        with of_item(number):
            asked = read_object(as_object(one, "it"), EnqueueBody)
            yield _given(asked) | {"idempotency_key": asked.idempotency_key or None}


@contextmanager
def of_item(number: int) -> Iterator[None]:
    """Name the fields that are wrong with their place in an array, such as `[3].type`."""
    try:
        yield
    except InvalidBody as error:
        raise InvalidBody({f"[{number}].{name}": told for name, told in error.problems.items()}) from None
    except InvalidInput as error:
        field = f"[{number}].{error.field}" if error.field else f"[{number}]"
        raise InvalidInput(f"[{number}]: {error}", field=field) from None


def _given(asked: EnqueueBody) -> dict[str, Any]:
    """Return what a body says, by the names of `NewJob`."""
    return {
        "type": asked.type,
        "payload": asked.payload,
        "queue": asked.queue,
        "priority": asked.priority,
        "max_attempts": asked.max_attempts,
        "run_at": instant_of(asked.run_at, "run_at"),
        "delay": None if asked.delay_sec is None else timedelta(seconds=asked.delay_sec),
        "limit_key": asked.limit_key,
        "unique": unique_field(asked.model_dump(by_alias=True)),
        "depends_on": asked.depends_on,
        "on_parent_failure": asked.on_parent_failure,
        "batch_id": asked.batch_id,
    }


def _one_key(in_body: str | None, in_header: str | None) -> str | None:
    if in_body and in_header and in_body != in_header:
        raise InvalidInput("the header Idempotency-Key and idempotencyKey differ; give one", field="idempotency_key")
    return in_body or in_header or None
