"""One schedule: what it says, a preview of its fires as one types, and what can be done to it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Annotated, Any
from zoneinfo import available_timezones

from fastapi import APIRouter, Path, Response

from ayb_jobs.checks.schedules import words_of
from ayb_jobs.errors import Conflict, InvalidInput
from ayb_jobs.http.acting import acting, acting_in_steps
from ayb_jobs.http.dashboard.clock import Clock
from ayb_jobs.http.dashboard.job import pretty
from ayb_jobs.http.dashboard.schedules import word_of
from ayb_jobs.http.dashboard.shell import Blank, Fields, Visit, Visitor
from ayb_jobs.http.dashboard.typing_in import decoded, number, whole_number
from ayb_jobs.http.edge.auth import Scope
from ayb_jobs.model.schedules.cron import Ended, check_cron
from ayb_jobs.model.schedules.lint import examine
from ayb_jobs.model.schedules.preview import foresee
from ayb_jobs.model.schedules.schedule import NewSchedule, Schedule
from ayb_jobs.model.schedules.zones import shifts
from ayb_jobs.model.words import as_sentence
from ayb_jobs.operations import schedules as operations
from ayb_jobs.storage.clock import now
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.schedules.ledger import LedgerRow, list_fires
from ayb_jobs.storage.schedules.overdue import list_overdue
from ayb_jobs.storage.schedules.schedules import get_schedule

NEXT = 6
FIRES = 20
YEAR = timedelta(days=366)
AROUND = timedelta(hours=4)
MOST_AT_A_CHANGE = 300
MOST_CHANGES = 6
SECONDS = ("expect_success_within_s", "timeout_s", "jitter_s")
FORM = (
    "name", "job_type", "cron", "timezone", "dst", "overlap", "catchup", "expect_success_within_s", "timeout_s", "queue",
    "priority", "max_attempts", "jitter_s", "payload",
)  # fmt: skip
NEW = {"timezone": "UTC", "dst": "once", "overlap": "allow", "catchup": "latest", "queue": "default", "priority": "2",
       "jitter_s": "0", "payload": "{}", "cron": "0 3 * * *"}  # fmt: skip
SHOWN_FIRES = {
    "enqueued": ("completed", "enqueued"),
    "late": ("late", "late"),
    "caught_up": ("caught", "caught up"),
    "coalesced": ("skipped", "merged into a later one"),
    "skipped": ("skipped", "skipped"),
}


ScheduleKey = Annotated[str, Path(alias="id")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreseen:
    """A coming fire as it is listed."""

    local: str
    utc: str
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What a timing will do: its next fires, those at changes of clocks, and what looks odd; or what is wrong."""

    next: list[Foreseen]
    changes: list[Foreseen]
    remarks: list[str]
    error: str = ""


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


def typed_of(schedule: Schedule) -> Blank:
    """Return a schedule's fields as its form shows them."""
    typed = Blank()
    for name in FORM:
        value = pretty(schedule.payload_text) if name == "payload" else getattr(schedule, name)
        typed[name] = "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    return typed


def _form(
    visit: Visit, schedule: Schedule | None, typed: Blank, wrong: Mapping[str, str] | None = None, status: int = 200
) -> Response:
    with visit.reading() as conn:
        at = now(conn)
        late = _late(conn, schedule)
        fires = list_fires(conn, schedule_id=schedule.id, limit=FIRES) if schedule else []
    said = [(name, typed[name]) for name in FORM if name != "payload" and typed[name]]
    return visit.page(
        "schedule.html",
        status=status,
        now=at,
        title=schedule.name if schedule else "New schedule",
        schedule=schedule,
        word=word_of(schedule, late, ()) if schedule else None,
        overdue=f"{words_of(late, at)}." if late else "",
        typed=typed,
        said=said,
        wrong=Blank(wrong or {}),
        types=visit.services.registry.names(),
        zones=sorted(available_timezones()),
        fires=[_fire(each) for each in fires],
        preview=foreseen(typed, schedule, visit.clock(at)),
    )


def _late(conn: Connection, schedule: Schedule | None) -> Any:
    if schedule is None:
        return None
    return next((each for each in list_overdue(conn) if each.schedule_id == schedule.id), None)


def _fire(row: LedgerRow) -> dict[str, Any]:
    word = SHOWN_FIRES.get(row.outcome, ("queued", row.outcome))
    return {"fire_at": row.fire_at, "word": word, "reason": row.reason, "job_id": row.job_id}


def preview(visit: Visitor) -> Response:
    """Give the preview alone, of a timing that is being typed."""
    typed = Blank(NEW | {name: visit.asked(name) for name in FORM if visit.asked(name)})
    with visit.reading() as conn:
        at = now(conn)
    return visit.page("preview.html", now=at, preview=foreseen(typed, None, visit.clock(at)))


def foreseen(typed: Blank, schedule: Schedule | None, clock: Clock) -> Preview:
    """Return what a timing will do."""
    cron, timezone, dst = typed["cron"], typed["timezone"] or "UTC", typed["dst"] or "once"
    try:
        check_cron(cron, timezone)
        beside = schedule.next_run_at if schedule and schedule.cron == cron else None
        ahead = [
            each for each in islice(_until_ended(cron, timezone, clock.now, dst, beside), NEXT * 2) if each.is_fire
        ]
        changes = list(_changes(cron, timezone, dst, clock))
        remarks = [each.message for each in examine(_as_schedule(typed, clock.now), clock.now)]
    except InvalidInput as error:
        return Preview(next=[], changes=[], remarks=[], error=as_sentence(str(error)))
    return Preview(next=[_shown(each, clock) for each in ahead[:NEXT]], changes=changes, remarks=remarks)


def _until_ended(cron: str, timezone: str, after: datetime, dst: str, beside: datetime | None = None) -> Iterator[Any]:
    try:
        yield from foresee(cron, timezone, after, dst, beside=beside)
    except Ended:
        return


def _changes(cron: str, timezone: str, dst: str, clock: Clock) -> Iterator[Foreseen]:
    """Yield the fires of the next year that a change of clocks moves, doubles or leaves out."""
    if cron.startswith("@every"):
        return
    told = 0
    for year in (clock.now.year, clock.now.year + 1):
        for shift in shifts(timezone, year):
            if not clock.now < shift < clock.now + YEAR:
                continue
            for each in islice(_until_ended(cron, timezone, shift - AROUND, dst), MOST_AT_A_CHANGE):
                if each.at > shift + AROUND or told >= MOST_CHANGES:
                    break
                if each.note:
                    told += 1
                    yield _shown(each, clock)


def _shown(each: Any, clock: Clock) -> Foreseen:
    local = each.local
    year = "" if local.year == clock.now.year else f" {local.year}"
    return Foreseen(
        local=f"{local:%a} {local.day} {local:%b}{year} {local:%H:%M:%S} {local:%Z}".replace(":00 ", " "),
        utc=f"{each.at.day} {each.at:%b %H:%M:%S}".removesuffix(":00"),
        note=as_sentence(each.note) if each.note else "",
    )


def _as_schedule(typed: Blank, at: datetime) -> Schedule:
    """Return what is typed as a schedule that lint can read; what is no number there is left out."""
    within = typed["expect_success_within_s"]
    bare = Schedule(
        id="", name=typed["name"], job_type=typed["job_type"], payload_text="{}", cron=typed["cron"],
        timezone=typed["timezone"] or "UTC", enabled=True, max_attempts=1, queue="default", priority=2, catchup="latest",
        catchup_max=100, catchup_window_s=86400.0, overlap="allow", dst=typed["dst"] or "once", jitter_s=0.0,
        timeout_s=None, expect_success_within_s=None, ping_url=None, origin="operator", state="enabled",
        next_run_at=None, last_run_at=None, last_fire_at=None, last_error=None, created_at=at, updated_at=at,
    )  # fmt: skip
    try:
        return replace(bare, expect_success_within_s=number(within, "expect_success_within_s"))
    except InvalidInput:
        return bare


def _values(fields: Mapping[str, str]) -> tuple[dict[str, Any], Blank]:
    """Return what a form says by the names of `NewSchedule`, and what is wrong with it."""
    values: dict[str, Any] = {}
    wrong = Blank()
    for name in FORM:
        text = fields.get(name, "").strip()
        try:
            if name == "payload":
                values[name] = decoded(text or "{}", name)
            elif name in SECONDS:
                values[name] = number(text, name)
            elif name in {"priority", "max_attempts"}:
                values[name] = whole_number(text, name)
            else:
                values[name] = text
        except InvalidInput as error:
            wrong[name] = as_sentence(str(error))
    if values.get("jitter_s") is None:
        values["jitter_s"] = 0.0
    return values, wrong


def create(visit: Visitor, fields: Fields) -> Response:
    """Create a schedule, or show what it would do."""
    session = visit.need(Scope.ADMIN)
    typed = Blank({name: fields.get(name, "") for name in FORM})
    if fields.get("press") == "preview":
        return _form(visit, None, typed)
    values, wrong = _values(fields)
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
    typed = Blank({name: fields.get(name, "") for name in FORM})
    if fields.get("press") == "preview":
        return _form(visit, schedule, typed)
    values, wrong = _values(fields)
    if wrong:
        return _form(visit, schedule, typed, wrong, status=400)
    before = typed_of(schedule)
    changes = {name: values[name] for name in FORM if typed[name].strip() != before[name].strip()}
    if not changes:
        return visit.onward(f"/schedules/{schedule.id}")
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


def trigger(visit: Visitor, _: Fields, key: ScheduleKey) -> Response:
    """Enqueue a schedule's job now, and show the job."""
    with visit.acting(Scope.OPERATE) as (conn, actor):
        job = operations.trigger(conn, key, actor=actor)
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
