"""Enqueueing a job by a form, also from an earlier one with another payload."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Response

from ayb_jobs.errors import Conflict, InvalidInput
from ayb_jobs.http.acting import acting
from ayb_jobs.http.dashboard.clock import Clock
from ayb_jobs.http.dashboard.payloads import pretty
from ayb_jobs.http.dashboard.shell import Blank, Fields, Visit, Visitor
from ayb_jobs.http.dashboard.typing_in import decoded, whole_number
from ayb_jobs.http.edge.auth import Scope
from ayb_jobs.model.dependencies import RULES
from ayb_jobs.model.unique import unique_of
from ayb_jobs.model.words import as_sentence
from ayb_jobs.operations import jobs as operations
from ayb_jobs.storage.clock import now
from ayb_jobs.storage.queue.jobs import get_job

FORM = (
    "type", "queue", "priority", "delay", "max_attempts", "idempotency_key", "unique_key", "depends_on", "on_parent_failure",
    "payload",
)  # fmt: skip
# Where an error about one field is shown at another.
SHOWN_AT = {"delay": "run_at", "on_parent_failure": "depends_on"}
RULE_WORDS = {"cancel": "this one is canceled", "run": "it runs all the same", "hold": "it waits for a retry"}


def add_to(routes: APIRouter) -> None:
    """Add the form."""
    routes.add_api_route("/enqueue", ask, methods=["GET"])
    routes.add_api_route("/enqueue", enqueue, methods=["POST"])


def ask(visit: Visitor) -> Response:
    """Show the form, empty or with what an earlier job was."""
    visit.need(Scope.OPERATE)
    from_id = visit.asked("from", 50)
    typed = Blank({"type": visit.asked("type", 100)})
    if from_id:
        with visit.reading() as conn:
            job = get_job(conn, from_id)
        typed = Blank(
            {
                "type": job.type,
                "queue": job.queue,
                "priority": str(job.priority),
                "max_attempts": str(job.max_attempts),
                "payload": pretty(job.payload_text),
            }
        )
    return _form(visit, typed, from_id=from_id)


def _form(visit: Visit, typed: Blank, *, from_id: str = "", wrong: Mapping[str, str] | None = None) -> Response:
    return visit.page(
        "enqueue.html",
        status=400 if wrong else 200,
        title="Enqueue a job",
        typed=typed,
        wrong=Blank(wrong or {}),
        from_id=from_id,
        types=visit.services.registry.names(),
        rules=[("", RULE_WORDS["cancel"]), *((rule, RULE_WORDS[rule]) for rule in RULES if rule != "cancel")],
    )


def enqueue(visit: Visitor, fields: Fields) -> Response:
    """Enqueue the job, and show it."""
    session = visit.need(Scope.OPERATE)
    typed = Blank({name: fields.get(name, "").strip() for name in FORM})
    try:
        with acting(visit.services, session.caller) as (conn, actor):
            given = _given(visit.clock(now(conn)), typed)
            if not typed["idempotency_key"] and not typed["unique_key"]:
                given["idempotency_key"] = visit.once(fields)
            made = operations.enqueue(conn, given, actor=actor, defaults=visit.services.defaults)
    except InvalidInput as error:
        field = SHOWN_AT.get(error.field, error.field.partition(".")[0])
        return _form(visit, typed, wrong={field if field in {*FORM, "run_at"} else "form": as_sentence(str(error))})
    except Conflict as error:
        return _form(visit, typed, wrong={"idempotency_key": as_sentence(str(error))})
    is_new = made.created or not (typed["idempotency_key"] or typed["unique_key"])
    return visit.onward(f"/jobs/{made.job.id}", "enqueued" if is_new else "found")


def _given(clock: Clock, typed: Blank) -> dict[str, Any]:
    """Return what was typed by the names of `NewJob`; raises `InvalidInput`."""
    if not typed["type"]:
        raise InvalidInput("type is empty; it is required", field="type")
    return {
        "type": typed["type"],
        "payload": decoded(typed["payload"], "payload") if typed["payload"] else None,
        "queue": typed["queue"] or None,
        "priority": whole_number(typed["priority"], "priority"),
        "max_attempts": whole_number(typed["max_attempts"], "max_attempts"),
        "run_at": clock.read(typed["delay"], "delay"),
        "idempotency_key": typed["idempotency_key"] or None,
        "unique": unique_of({"unique_key": typed["unique_key"] or None}),
        "depends_on": typed["depends_on"].replace(",", " ").split() or None,
        "on_parent_failure": typed["on_parent_failure"] or None,
    }
