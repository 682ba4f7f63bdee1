"""Batches: how far each is, sealing one and cancelling one."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Response

from ayb_jobs.errors import InvalidInput, NotFound
from ayb_jobs.http.acting import acting_in_steps
from ayb_jobs.http.dashboard import charts
from ayb_jobs.http.dashboard.shell import Fields, Visitor, query
from ayb_jobs.http.dashboard.texts import Html
from ayb_jobs.http.edge.auth import Scope
from ayb_jobs.model.batches import Batch, BatchState
from ayb_jobs.model.checked import checked_id
from ayb_jobs.model.words import counted
from ayb_jobs.operations import batches as operations
from ayb_jobs.storage.clock import now
from ayb_jobs.storage.queue.batch_views import get_batch, list_batches

PAGE = 50
# How far a batch is: its shape, and its word.
STATES: dict[BatchState, tuple[str, str]] = {
    BatchState.OPEN: ("later", "open"),
    BatchState.RUNNING: ("running", "runs"),
    BatchState.SUCCEEDED: ("completed", "succeeded"),
    BatchState.FAILED: ("failed", "failed"),
}
BatchId = Annotated[str, Path(alias="id")]


def add_to(routes: APIRouter) -> None:
    """Add the list of batches, the page of one, and sealing and cancelling it."""
    routes.add_api_route("/batches", batches, methods=["GET"])
    routes.add_api_route("/batches/{id}", show, methods=["GET"])
    routes.add_api_route("/batches/{id}/seal", seal, methods=["POST"])
    routes.add_api_route("/batches/{id}/cancel", ask_cancel, methods=["GET"])
    routes.add_api_route("/batches/{id}/cancel", cancel, methods=["POST"])


def batches(visit: Visitor) -> Response:
    """List batches, the newest first."""
    state = visit.chosen("state", list(BatchState), "")
    before = visit.asked("before", 50)
    with visit.reading() as conn:
        at = now(conn)
        found = list_batches(
            conn,
            state=BatchState(state) if state else None,
            before=checked_id(before, "before") if before else None,
            limit=PAGE,
        )
    return visit.page(
        "batches.html",
        now=at,
        title="Batches",
        state=state,
        states=[("", "any"), *((each.value, word) for each, (_, word) in STATES.items())],
        batches=[_shown(each) for each in found],
        is_later_page=bool(before),
        first_href=f"/batches?{query(state=state)}",
        next_href=f"/batches?{query(state=state, before=found[-1].id)}" if len(found) == PAGE else "",
    )


def _shown(batch: Batch) -> dict[str, Any]:
    ended = f"{_counted(batch, 'ended')} of {_counted(batch, 'total')}"
    return {
        "batch": batch,
        "word": STATES[batch.state],
        "ended": ended,
        "failed": _counted(batch, "failed"),
        "gauge": "" if batch.percent is None else _gauge(batch, f"{ended} jobs have ended"),
    }


def _gauge(batch: Batch, title: str) -> Html:
    """Return a bar of what ended: failed, canceled, completed, each as long as its part of the batch."""
    if not batch.total:
        return charts.gauge(batch.percent or 0, title)
    ends = ((batch.failed, "f-bad"), (batch.canceled, "f-warn"), (batch.completed, "f-run"))
    return charts.portions([(count / batch.total * charts.PERCENT, fill) for count, fill in ends], title)


def _counted(batch: Batch, name: str) -> str:
    """Return how many members a batch has of a state, or in all, as far as they were counted."""
    return counted(getattr(batch, name), most=None, cut=batch.cut)


def show(visit: Visitor, batch_id: BatchId) -> Response:
    """Show one batch, with its callbacks and its first error."""
    with visit.reading() as conn:
        at = now(conn)
        batch = get_batch(conn, _checked(batch_id))
    counts = [
        (word, _counted(batch, name), f"/jobs?{query(state=shown, batch_id=batch.id)}")
        for name, word, shown in (
            ("queued", "wait", "waiting"),
            ("running", "run", "running"),
            ("completed", "completed", "completed"),
            ("failed", "failed", "failed"),
            ("canceled", "were canceled", "canceled"),
        )
    ]
    return visit.page("batch.html", now=at, title=batch.description or "Batch", counts=counts, **_shown(batch))


def _checked(batch_id: str) -> str:
    """Return an id; one that is none is as good as one of no batch."""
    try:
        return checked_id(batch_id)
    except InvalidInput:
        raise NotFound(f"there is no batch {batch_id[:100]}") from None


def seal(visit: Visitor, _: Fields, batch_id: BatchId) -> Response:
    """Let a batch end once its members have."""
    with visit.acting(Scope.OPERATE) as (conn, actor):
        sealed = operations.seal(conn, batch_id, actor=actor)
    return visit.onward(f"/batches/{sealed.id}", "batch_sealed")


def ask_cancel(visit: Visitor, batch_id: BatchId) -> Response:
    """Ask whether what is left of a batch is meant to end."""
    visit.need(Scope.OPERATE)
    with visit.reading() as conn:
        at = now(conn)
        batch = get_batch(conn, _checked(batch_id))
    return visit.page(
        "batch_cancel.html",
        now=at,
        title="Cancel this batch?",
        batch=batch,
        about=f"{batch.description or batch.id}: {_counted(batch, 'queued')} of its jobs wait, {_counted(batch, 'running')} run.",
    )


def cancel(visit: Visitor, fields: Fields, batch_id: BatchId) -> Response:
    """Cancel what waits of a batch, and what runs, too, if that is asked for."""
    session = visit.need(Scope.OPERATE)
    begin, actor = acting_in_steps(visit.services, session.caller)
    canceled = operations.cancel(begin, batch_id, actor=actor, running=fields.get("running") == "yes")
    return visit.onward(f"/batches/{canceled.id}", "batch_canceled")
