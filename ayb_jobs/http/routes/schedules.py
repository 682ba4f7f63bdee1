"""Schedules over HTTP: AYB's calls, and running one now."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Path, Response
from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from ayb_jobs.http.acting import acting, acting_in_steps
from ayb_jobs.http.requests import (
    GUARDED,
    Admin,
    Body,
    Given,
    Operator,
    RawBody,
    documented,
    documented_body,
    read_body,
)
from ayb_jobs.http.shapes import JobShape, SchedulePage, ScheduleShape, answer
from ayb_jobs.model.job import MAX_ATTEMPTS, MAX_NAME
from ayb_jobs.model.schedules.schedule import Catchup, NewSchedule, Overlap
from ayb_jobs.operations import schedules as operations
from ayb_jobs.storage.requests import reading
from ayb_jobs.storage.schedules import schedules
from ayb_jobs.wire.jobs import job_text
from ayb_jobs.wire.schedules import schedule_text
from ayb_jobs.wire.text import page_text

ScheduleKey = Annotated[str, Path(alias="id", description="The schedule's UUID, or its name")]

# The model's names where the API's differ by more than camelCase.
MODEL_NAMES = {
    "cron_expr": "cron",
    "catchup_window_sec": "catchup_window_s",
    "jitter_sec": "jitter_s",
    "timeout_sec": "timeout_s",
    "expect_success_within_sec": "expect_success_within_s",
}
# What only the daemon writes: accepted and left alone, so that a client may send back what it got.
READ_ONLY = frozenset({"id", "nextRunAt", "lastRunAt", "lastFireAt", "lastError", "origin", "pingUrlSet", "state", "createdAt", "updatedAt"})  # fmt: skip
# Here null is a value; everywhere else it means "not given".
CLEARABLE = frozenset({"timeout_sec", "expect_success_within_sec", "ping_url"})


class _Further(Body):
    """What a schedule may say beyond AYB's fields."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", strict=True)

    queue: str | None = Field(default=None, min_length=1, max_length=MAX_NAME)
    priority: int | None = Field(default=None, ge=1, le=4)
    catchup: str | None = Field(default=None, json_schema_extra={"enum": [*Catchup, None]})
    catchup_max: int | None = Field(default=None, ge=1, le=1000)
    catchup_window_sec: float | None = Field(default=None, gt=0)
    overlap: str | None = Field(default=None, json_schema_extra={"enum": [*Overlap, None]})
    dst: str | None = Field(default=None, json_schema_extra={"enum": ["once", "skip", "both", None]})
    jitter_sec: float | None = Field(default=None, ge=0, le=86400)
    timeout_sec: float | None = Field(default=None, gt=0)
    expect_success_within_sec: float | None = Field(default=None, gt=0)
    ping_url: str | None = Field(default=None, max_length=1000)


class CreateBody(_Further):
    """A schedule to be created."""

    name: str = Field(min_length=1, max_length=MAX_NAME)
    job_type: str = Field(min_length=1, max_length=MAX_NAME)
    cron_expr: str = Field(min_length=1, max_length=100)
    timezone: str | None = Field(default=None, min_length=1, max_length=50)
    payload: Any = None
    enabled: bool | None = None
    max_attempts: int | None = Field(default=None, ge=1, le=MAX_ATTEMPTS)


class UpdateBody(_Further):
    """What is to be changed; keys that are not given keep their value."""

    name: str | None = Field(default=None, min_length=1, max_length=MAX_NAME)
    job_type: str | None = Field(default=None, min_length=1, max_length=MAX_NAME)
    cron_expr: str | None = Field(default=None, min_length=1, max_length=100)
    timezone: str | None = Field(default=None, min_length=1, max_length=50)
    payload: Any = None
    enabled: bool | None = None
    max_attempts: int | None = Field(default=None, ge=1, le=MAX_ATTEMPTS)


def router() -> APIRouter:
    """Return the routes below /api/admin/schedules."""
    routes = APIRouter(prefix="/api/admin/schedules", tags=["schedules"], dependencies=GUARDED)
    routes.add_api_route("", list_all, summary="List schedules", **documented(SchedulePage, "Schedules, by name"))
    routes.add_api_route(
        "",
        create,
        methods=["POST"],
        summary="Create a schedule",
        openapi_extra=documented_body(CreateBody),
        **documented(ScheduleShape, "The schedule", 409, success=201),
    )
    routes.add_api_route("/{id}", show, summary="Show a schedule", **documented(ScheduleShape, "The schedule", 404))
    routes.add_api_route(
        "/{id}",
        update,
        methods=["PUT"],
        summary="Change a schedule",
        openapi_extra=documented_body(UpdateBody),
        **documented(ScheduleShape, "The schedule as it is now", 404, 409),
    )
    routes.add_api_route(
        "/{id}",
        delete,
        methods=["DELETE"],
        summary="Delete a schedule; its jobs stay",
        **documented(None, "Deleted", 404, success=204),
    )
    for name, route in (("enable", enable), ("disable", disable)):
        routes.add_api_route(
            f"/{{id}}/{name}",
            route,
            methods=["POST"],
            summary=f"{name.title()} a schedule",
            **documented(ScheduleShape, "The schedule as it is now", 404),
        )
    routes.add_api_route(
        "/{id}/trigger",
        trigger,
        methods=["POST"],
        summary="Enqueue a schedule's job now",
        **documented(JobShape, "The job", 404, success=201),
    )
    return routes


def list_all(services: Given) -> Response:
    """List every schedule, by name."""
    with reading(services.database, services.read_timeout_s) as conn:
        return answer(page_text(map(schedule_text, schedules.list_schedules(conn))))


def show(services: Given, key: ScheduleKey) -> Response:
    """Show one schedule."""
    with reading(services.database, services.read_timeout_s) as conn:
        return answer(schedule_text(schedules.get_schedule(conn, key)))


def create(services: Given, caller: Admin, body: RawBody) -> Response:
    """Create a schedule; its first run is the first one after now."""
    new = NewSchedule(**_given(read_body(body, CreateBody)))
    with acting(services, caller) as (conn, actor):
        made = operations.create(conn, new, actor=actor, defaults=services.defaults)
    return answer(schedule_text(made), 201)


def update(services: Given, caller: Admin, key: ScheduleKey, body: RawBody) -> Response:
    """Change a schedule; its next run is computed anew if its timing changed or it was enabled."""
    changes = _given(read_body(body, UpdateBody, ignoring=READ_ONLY))
    with acting(services, caller) as (conn, actor):
        changed = operations.update(conn, key, changes, actor=actor, defaults=services.defaults)
    return answer(schedule_text(changed))


def enable(services: Given, caller: Operator, key: ScheduleKey) -> Response:
    """Enable a schedule; its next run is the first one after now."""
    with acting(services, caller) as (conn, actor):
        return answer(schedule_text(operations.enable(conn, key, actor=actor)))


def disable(services: Given, caller: Operator, key: ScheduleKey) -> Response:
    """Disable a schedule."""
    with acting(services, caller) as (conn, actor):
        return answer(schedule_text(operations.disable(conn, key, actor=actor)))


def delete(services: Given, caller: Admin, key: ScheduleKey) -> Response:
    """Delete a schedule; its jobs stay."""
    begin, actor = acting_in_steps(services, caller)
    operations.delete(begin, key, actor=actor)
    return Response(status_code=204)


def trigger(services: Given, caller: Operator, key: ScheduleKey) -> Response:
    """Enqueue a schedule's job now, whether it is enabled or not."""
    with acting(services, caller) as (conn, actor):
        job = operations.trigger(conn, key, actor=actor)
    return answer(job_text(job), 201)


def _given(body: CreateBody | UpdateBody) -> Mapping[str, Any]:
    """Return what a body says, by the model's names."""
    said = {name: getattr(body, name) for name in body.model_fields_set}
    return {
        MODEL_NAMES.get(name, name): value for name, value in said.items() if value is not None or name in CLEARABLE
    }
