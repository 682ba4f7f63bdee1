"""Schedules over HTTP: AYB's calls, and running one now."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Path, Response

from ayb_jobs.http.acting import acting, acting_in_steps
from ayb_jobs.http.bodies import AsAyb, NamedByField, SchedulePage, ScheduleShape, schedule_body
from ayb_jobs.http.edge.auth import Caller
from ayb_jobs.http.parsing import OURS, read_body
from ayb_jobs.http.requests import GUARDED, Admin, Given, Operator, RawBody, documented, documented_body
from ayb_jobs.http.services import Services
from ayb_jobs.http.shapes import JobShape, answer
from ayb_jobs.model.schedules.fields import FIELDS
from ayb_jobs.model.schedules.schedule import NewSchedule
from ayb_jobs.operations import schedules as operations
from ayb_jobs.storage.requests import reading
from ayb_jobs.storage.schedules import schedules
from ayb_jobs.wire.jobs import job_text
from ayb_jobs.wire.schedules import schedule_text
from ayb_jobs.wire.text import page_text

ScheduleKey = Annotated[str, Path(alias="id", description="The schedule's UUID, or its name")]

# Here null is a value; everywhere else it means "not given".
CLEARABLE = frozenset(name for name, rule in FIELDS.items() if rule.optional)

# AYB's PUT cannot change these.
FIXED = frozenset({"name", "job_type", "max_attempts"})

CreateBody = schedule_body("CreateBody", "A schedule to be created.", AsAyb, required={"name", "job_type", "cron"})
PutBody = schedule_body("PutBody", "What AYB's call changes; keys not given keep their value.", AsAyb, without=FIXED)
PatchBody = schedule_body("PatchBody", "What is to be changed; keys that are not given keep their value.")


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
    routes.add_api_route(
        "/{id}", show, summary="Show a schedule", dependencies=OURS, **documented(ScheduleShape, "The schedule", 404)
    )
    routes.add_api_route(
        "/{id}",
        put,
        methods=["PUT"],
        summary="Change a schedule, as AYB does",
        openapi_extra=documented_body(PutBody),
        **documented(ScheduleShape, "The schedule as it is now", 404),
    )
    routes.add_api_route(
        "/{id}",
        patch,
        methods=["PATCH"],
        summary="Change a schedule, its name, type and attempts too",
        dependencies=OURS,
        openapi_extra=documented_body(PatchBody),
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
        dependencies=OURS,
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


def put(services: Given, caller: Admin, key: ScheduleKey, body: RawBody) -> Response:
    """Change a schedule; its next run is computed anew if its timing changed or it was enabled."""
    return _change(services, caller, key, _given(read_body(body, PutBody)))


def patch(services: Given, caller: Admin, key: ScheduleKey, body: RawBody) -> Response:
    """Change whatever can be changed of a schedule; its next run is computed as by PUT."""
    return _change(services, caller, key, _given(read_body(body, PatchBody)))


def _change(services: Services, caller: Caller, key: str, changes: Mapping[str, Any]) -> Response:
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


def _given(body: NamedByField) -> Mapping[str, Any]:
    """Return what a body says, by the model's names."""
    said = {name: getattr(body, name) for name in body.model_fields_set}
    return {name: value for name, value in said.items() if value is not None or name in CLEARABLE}
