"""One schedule: what it says, a preview of its fires as one types, and what can be done to it."""

import json
from collections.abc import Mapping
from typing import Annotated, Any
from zoneinfo import available_timezones

from fastapi import APIRouter, Path, Response

from ayb_jobs.errors import Conflict, InvalidInput
from ayb_jobs.http.acting import acting, acting_in_steps
from ayb_jobs.http.dashboard.preview import preview_of
from ayb_jobs.http.dashboard.schedule_form import FORM, NEW, changed_meanwhile, shown_of, typed_of, values_of
from ayb_jobs.http.dashboard.schedules import kind_of, word_of
from ayb_jobs.http.dashboard.shell import Blank, Fields, Visit, Visitor
from ayb_jobs.http.edge.auth import Scope
from ayb_jobs.model.schedules.schedule import NewSchedule, Schedule
from ayb_jobs.model.words import as_sentence
from ayb_jobs.operations import schedules as operations
from ayb_jobs.storage.clock import now
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.schedules.grid import FiredSquare, list_squares
from ayb_jobs.storage.schedules.overdue import list_overdue
from ayb_jobs.storage.schedules.schedules import get_schedule

FIRES = 20
# What became of a fire: its shape, and its word.
SHOWN_FIRES = {
    "completed": ("completed", "completed"),
    "late": ("late", "late"),
    "caught_up": ("caught", "caught up"),
    "coalesced": ("skipped", "merged into a later one"),
    "skipped": ("skipped", "skipped"),
    "failed": ("failed", "failed"),
    "canceled": ("canceled", "canceled"),
    "running": ("running", "runs"),
    "waiting": ("queued", "waits"),
}
# Neither its job nor an attempt of that is kept.
UNKNOWN_FIRE = ("queued", "enqueued")


ScheduleKey = Annotated[str, Path(alias="id")]


def add_to(routes: APIRouter) -> None:
    """Add the page of a schedule, its preview, and what can be done to it."""
    routes.add_api_route("/schedules/preview", preview, methods=["GET"])
    routes.add_api_route("/schedules/new", ask, methods=["GET"])
    routes.add_api_route("/schedules/new", create, methods=["POST"])
    routes.add_api_route("/schedules/{id}", show, methods=["GET"])
    routes.add_api_route("/schedules/{id}", save, methods=["POST"])
    routes.add_api_route("/schedules/{id}/trigger", trigger, methods=["POST"])
    routes.add_api_route("/schedules/{id}/enable", enable, methods=["POST"])
    routes.add_api_route("/schedules/{id}/disable", disable, methods=["POST"])
    routes.add_api_route("/schedules/{id}/delete", ask_delete, methods=["GET"])
    routes.add_api_route("/schedules/{id}/delete", delete, methods=["POST"])


def ask(visit: Visitor) -> Response:
    """Show an empty form."""
    visit.need(Scope.ADMIN)
    return _form(visit, None, Blank(NEW))


def show(visit: Visitor, key: ScheduleKey) -> Response:
    """Show one schedule."""
    with visit.reading() as conn:
        schedule = get_schedule(conn, key)
    return _form(visit, schedule, typed_of(schedule))


def _form(
    visit: Visit, schedule: Schedule | None, typed: Blank, wrong: Mapping[str, str] | None = None, status: int = 200
) -> Response:
    with visit.reading() as conn:
        at = now(conn)
        late = _late(conn, schedule)
        squares = list_squares(conn, schedule_id=schedule.id, fires=FIRES).get(schedule.id, []) if schedule else []
    said = [(name, typed[name]) for name in FORM if name != "payload" and typed[name]]
    return visit.page(
        "schedule.html",
        status=status,
        now=at,
        title=schedule.name if schedule else "New schedule",
        schedule=schedule,
        word=word_of(schedule, late, [kind_of(each) for each in squares]) if schedule else None,
        overdue=f"{late.told}." if late else "",
        typed=typed,
        shown=typed["shown"] or json.dumps(typed),
        said=said,
        wrong=Blank(wrong or {}),
        types=visit.services.registry.names(),
        zones=sorted(available_timezones()),
        fires=[_fire(each) for each in reversed(squares)],
        preview=preview_of(typed, schedule, visit.clock(at)),
    )


def _late(conn: Connection, schedule: Schedule | None) -> Any:
    if schedule is None:
        return None
    return next((each for each in list_overdue(conn) if each.schedule_id == schedule.id), None)


def _fire(square: FiredSquare) -> dict[str, Any]:
    is_unknown = square.job is None and square.fire == "enqueued"
    word = UNKNOWN_FIRE if is_unknown else SHOWN_FIRES.get(kind_of(square), ("queued", square.fire))
    return {"fire_at": square.fire_at, "word": word, "reason": square.reason, "job_id": square.job_id}


def preview(visit: Visitor) -> Response:
    """Give the preview alone, of a timing that is being typed."""
    typed = Blank(NEW | {name: visit.asked(name) for name in FORM if visit.asked(name)})
    with visit.reading() as conn:
        at = now(conn)
    return visit.page("preview.html", now=at, preview=preview_of(typed, None, visit.clock(at)))


def create(visit: Visitor, fields: Fields) -> Response:
    """Create a schedule, or show what it would do."""
    session = visit.need(Scope.ADMIN)
    typed = Blank({name: fields.get(name, "") for name in FORM})
    if fields.get("press") == "preview":
        return _form(visit, None, typed)
    values, wrong = values_of(fields)
    if wrong:
        return _form(visit, None, typed, wrong, status=400)
    try:
        new = NewSchedule(**values)
        with acting(visit.services, session.caller) as (conn, actor):
            made = operations.create(conn, new, actor=actor, defaults=visit.services.defaults)
    except (InvalidInput, Conflict) as error:
        return _form(visit, None, typed, _where(error), status=409 if isinstance(error, Conflict) else 400)
    return visit.onward(f"/schedules/{made.id}", "created")


def save(visit: Visitor, fields: Fields, key: ScheduleKey) -> Response:
    """Change what differs, or show what the change would do."""
    session = visit.need(Scope.ADMIN)
    with visit.reading() as conn:
        schedule = get_schedule(conn, key)
    typed, shown = Blank({name: fields.get(name, "") for name in (*FORM, "shown")}), shown_of(fields, schedule)
    if fields.get("press") == "preview":
        return _form(visit, schedule, typed)
    values, wrong = values_of(fields)
    if wrong:
        return _form(visit, schedule, typed, wrong, status=400)
    changes = {name: values[name] for name in FORM if typed[name].strip() != shown[name].strip()}
    if not changes:
        return visit.onward(f"/schedules/{schedule.id}")
    current = typed_of(schedule)
    if lost := changed_meanwhile(shown, current, changes):
        kept = Blank(current | {name: typed[name] for name in changes}, shown=json.dumps(current))
        return _form(visit, schedule, kept, {"form": lost}, status=409)
    try:
        with acting(visit.services, session.caller) as (conn, actor):
            operations.update(conn, schedule.id, changes, actor=actor, defaults=visit.services.defaults)
    except (InvalidInput, Conflict) as error:
        return _form(visit, schedule, typed, _where(error), status=409 if isinstance(error, Conflict) else 400)
    return visit.onward(f"/schedules/{schedule.id}", "saved")


def _where(error: InvalidInput | Conflict) -> dict[str, str]:
    """Return an error by the field that it is about."""
    field = error.field.partition(".")[0] if isinstance(error, InvalidInput) else "name"
    return {field if field in FORM else "form": as_sentence(str(error))}


def trigger(visit: Visitor, fields: Fields, key: ScheduleKey) -> Response:
    """Enqueue a schedule's job now, and show the job."""
    with visit.acting(Scope.OPERATE) as (conn, actor):
        job = operations.trigger(conn, key, actor=actor, once=visit.once(fields))
    return visit.onward(f"/jobs/{job.id}", "enqueued")


def enable(visit: Visitor, _: Fields, key: ScheduleKey) -> Response:
    """Enable a schedule."""
    with visit.acting(Scope.OPERATE) as (conn, actor):
        changed = operations.enable(conn, key, actor=actor)
    return visit.onward(f"/schedules/{changed.id}", "enabled")


def disable(visit: Visitor, _: Fields, key: ScheduleKey) -> Response:
    """Disable a schedule."""
    with visit.acting(Scope.OPERATE) as (conn, actor):
        changed = operations.disable(conn, key, actor=actor)
    return visit.onward(f"/schedules/{changed.id}", "disabled")


def ask_delete(visit: Visitor, key: ScheduleKey) -> Response:
    """Ask whether a schedule is meant to go."""
    visit.need(Scope.ADMIN)
    with visit.reading() as conn:
        at = now(conn)
        schedule = get_schedule(conn, key)
    shipped = " It is shipped in a pack or in the settings, so that the next start of a daemon makes it again."
    return visit.page(
        "ask.html",
        now=at,
        title=f"Delete {schedule.name}?",
        question="Delete this schedule?",
        about=f"{schedule.name}, {schedule.cron} in {schedule.timezone}.",
        effect="It goes with the record of its fires; its jobs stay."
        + (shipped if schedule.origin != "operator" else ""),
        action=f"/schedules/{schedule.id}/delete",
        word="Delete this schedule",
        back=f"/schedules/{schedule.id}",
    )


def delete(visit: Visitor, _: Fields, key: ScheduleKey) -> Response:
    """Delete a schedule."""
    session = visit.need(Scope.ADMIN)
    begin, actor = acting_in_steps(visit.services, session.caller)
    operations.delete(begin, key, actor=actor)
    return visit.onward("/schedules", "deleted")
