"""Jobs over HTTP: AYB's calls, and paging by cursor."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Response
from pydantic import ConfigDict

from ayb_jobs.errors import Conflict, InvalidInput, NotFound
from ayb_jobs.http.acting import acting
from ayb_jobs.http.parsing import (
    DEFAULT_PAGE,
    OURS,
    AybLimit,
    AybOffset,
    Body,
    Limit,
    as_object,
    decode,
    instant_of,
    known_once_ours,
    read_object,
)
from ayb_jobs.http.requests import (
    GUARDED,
    Given,
    Operator,
    RawBody,
    cursor_of,
    documented,
    documented_body,
    page_size,
    place_after,
    row_offset,
)
from ayb_jobs.http.routes import enqueueing
from ayb_jobs.http.shapes import ExecutionPage, JobPage, JobShape, OutputShape, StatsShape, answer
from ayb_jobs.model.checked import MAX_IDEMPOTENCY_KEY, MAX_NAME
from ayb_jobs.model.filters import MAX_ERROR, Filter
from ayb_jobs.model.job import JobState
from ayb_jobs.operations import jobs as operations
from ayb_jobs.storage.fleet.unclaimable import unclaimable_jobs
from ayb_jobs.storage.fleet.waiting import why_waiting
from ayb_jobs.storage.queue import jobs
from ayb_jobs.storage.queue.batch_views import find_batch_of
from ayb_jobs.storage.queue.dependencies import list_family
from ayb_jobs.storage.queue.executions import list_executions
from ayb_jobs.storage.queue.outputs import read_output
from ayb_jobs.storage.queue.queued import list_queued
from ayb_jobs.storage.queue.stats import job_stats
from ayb_jobs.storage.requests import reading
from ayb_jobs.wire.batches import progress_fields
from ayb_jobs.wire.jobs import execution_text, job_text, output_text, stats_text
from ayb_jobs.wire.text import page_text

JobId = Annotated[str, Path(alias="id", description="The job's UUID")]


class RunAgainBody(Body):
    """What is different about the new job: its payload, if it is given. The body may be empty."""

    model_config = ConfigDict(extra="forbid", strict=True)

    payload: Any = None


def router() -> APIRouter:
    """Return the routes below /api/admin/jobs that are about single jobs and lists of them."""
    routes = APIRouter(prefix="/api/admin/jobs", tags=["jobs"], dependencies=GUARDED)
    routes.add_api_route(
        "",
        list_jobs,
        summary="List jobs",
        dependencies=[known_once_ours("state", "type", "limit", "offset")],
        **documented(JobPage, "Jobs, the newest first; with `due`, those first that become due first"),
    )
    enqueueing.add_to(routes)
    routes.add_api_route("/stats", stats, summary="Count jobs by state", **documented(StatsShape, "Counts"))
    routes.add_api_route("/{id}", show, summary="Show a job", **documented(JobShape, "The job", 404))
    routes.add_api_route(
        "/{id}/executions",
        executions,
        summary="List a job's attempts",
        dependencies=OURS,
        **documented(ExecutionPage, "Attempts, the newest first; a running one has no outcome", 404),
    )
    routes.add_api_route(
        "/{id}/output",
        output,
        summary="Show what a job's command wrote",
        dependencies=OURS,
        **documented(OutputShape, "The end of what the newest attempt wrote, up to 64 KiB", 404),
    )
    routes.add_api_route(
        "/{id}/retry",
        retry,
        methods=["POST"],
        summary="Queue a failed job again, with all its attempts",
        **documented(JobShape, "The job, queued", 409),
    )
    routes.add_api_route(
        "/{id}/cancel",
        cancel,
        methods=["POST"],
        summary="Cancel a queued job, or a running one if that is asked for",
        **documented(JobShape, "The job, canceled, or running until its handler ends", 409),
    )
    routes.add_api_route(
        "/{id}/run-again",
        run_again,
        methods=["POST"],
        summary="Make a new job of an old one, due now",
        dependencies=OURS,
        openapi_extra=documented_body(RunAgainBody, required=False),
        **documented(JobShape, "The job that was made", 404, success=201),
    )
    return routes


def list_jobs(  # noqa: PLR0917 - FastAPI passes them by name
    services: Given,
    state: Annotated[Literal["", "queued", "running", "completed", "failed", "canceled"], Query()] = "",
    due: Annotated[
        Literal["", "true", "false"], Query(description="Queued jobs that are due, or that are not yet")
    ] = "",
    type: Annotated[str, Query(max_length=MAX_NAME)] = "",
    queue: Annotated[str, Query(max_length=MAX_NAME)] = "",
    idempotency_key: Annotated[str, Query(alias="idempotencyKey", max_length=MAX_IDEMPOTENCY_KEY)] = "",
    batch_id: Annotated[str, Query(alias="batchId", description="Members of this batch")] = "",
    since: Annotated[str, Query(description="Created then or later")] = "",
    until: Annotated[str, Query(description="Created before then")] = "",
    error: Annotated[str, Query(description="A part of the last error, in any case", max_length=MAX_ERROR)] = "",
    alike: Annotated[str, Query(description="The last error's first line, <n> for numbers", max_length=MAX_ERROR)] = "",
    limit: AybLimit = DEFAULT_PAGE,
    offset: AybOffset = 0,
    cursor: Annotated[str, Query(description="nextCursor of the page before")] = "",
) -> Response:
    """List jobs, the newest first; with `due`, in the order in which they become due."""
    size, asked_state = page_size(limit), JobState(state) if state else None
    after = place_after(cursor)
    wanted = Filter(
        type=type or None,
        queue=queue or None,
        key=idempotency_key or None,
        batch_id=batch_id or None,
        since=instant_of(since or None, "since"),
        until=instant_of(until or None, "until"),
        error=error or None,
        alike=alike or None,
    )
    if due and offset > 0:
        raise InvalidInput("offset does not go with due; take cursor", field="offset")
    with reading(services.database, services.read_timeout_s) as conn:
        if due:
            page = list_queued(conn, wanted, due=due == "true", state=asked_state, limit=size, after=after)
        else:
            page = jobs.list_page(
                conn, state=asked_state, wanted=wanted, limit=size, offset=row_offset(offset), before=after
            )
    return answer(page_text(map(job_text, page.jobs), nextCursor=cursor_of(page.next)))


def stats(services: Given) -> Response:
    """Count jobs by state."""
    with reading(services.database, services.read_timeout_s) as conn:
        unclaimable = unclaimable_jobs(conn)
        return answer(stats_text(job_stats(conn), unclaimable=unclaimable.by_type, unclaimable_cut=unclaimable.cut))


def show(services: Given, job_id: JobId) -> Response:
    """Show one job; `waitReason` tells why it waits, `dependsOn` and `dependents` its parents and children.

    `batchProgress` tells how far its batch is.
    """
    with reading(services.database, services.read_timeout_s) as conn:
        job = jobs.get_job(conn, job_id)
        reason, family, batch = why_waiting(conn, job), list_family(conn, job.id), find_batch_of(conn, job)
        progress = progress_fields(batch) if batch else None
        return answer(
            job_text(job, wait_reason=reason.words if reason else None, family=family, batch_progress=progress)
        )


def executions(
    services: Given,
    job_id: JobId,
    limit: Limit = DEFAULT_PAGE,
    before: Annotated[int | None, Query(description="nextBefore of the page before", ge=1, le=2**63 - 1)] = None,
) -> Response:
    """List a job's attempts, the newest first."""
    size = page_size(limit)
    with reading(services.database, services.read_timeout_s) as conn:
        jobs.get_job(conn, job_id)
        found = list_executions(conn, job_id=job_id, before=before, limit=size)
    return answer(page_text(map(execution_text, found), nextBefore=found[-1].id if len(found) == size else None))


def output(
    services: Given,
    job_id: JobId,
    attempt: Annotated[int | None, Query(description="Of which attempt", ge=1, le=2**31 - 1)] = None,
) -> Response:
    """Show the end of what an attempt's command wrote."""
    with reading(services.database, services.read_timeout_s) as conn:
        jobs.get_job(conn, job_id)
        return answer(output_text(read_output(conn, job_id, attempt=attempt)))


def retry(services: Given, caller: Operator, job_id: JobId) -> Response:
    """Queue a failed job again."""
    with missing_as_conflict(), acting(services, caller) as (conn, actor):
        return answer(job_text(operations.retry(conn, job_id, actor=actor)))


Running = Annotated[bool, Query(description="Also cancel it if it runs: its handler is told")]
Force = Annotated[bool, Query(description="The same, and end it at once if its daemon is gone")]


def cancel(
    services: Given,
    caller: Operator,
    job_id: JobId,
    *,
    running: Running = False,
    force: Force = False,
) -> Response:
    """Cancel a queued job, or one that runs if that is asked for."""
    with missing_as_conflict(), acting(services, caller) as (conn, actor):
        return answer(job_text(operations.cancel(conn, job_id, actor=actor, running=running, force=force)))


def run_again(services: Given, caller: Operator, job_id: JobId, body: RawBody) -> Response:
    """Make a new job of an old one in any state, with another payload if the body has one."""
    asked = read_object(as_object(decode(body), "the body") if body else {}, RunAgainBody)
    given = {"payload": asked.payload} if "payload" in asked.model_fields_set else {}
    with acting(services, caller) as (conn, actor):
        return answer(job_text(operations.run_again(conn, job_id, given, actor=actor, defaults=services.defaults)), 201)


@contextmanager
def missing_as_conflict() -> Iterator[None]:
    """Answer 409 for a job that is missing, too, as AYB does."""
    try:
        yield
    except NotFound as error:
        raise Conflict(str(error)) from None
