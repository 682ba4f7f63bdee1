"""Queues and what is paused, beside the limits; pausing and resuming queues, job types and keys."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Response

from ayb_jobs.checks.glance import QueueView, view_queues
from ayb_jobs.errors import InvalidInput
from ayb_jobs.http.dashboard import charts
from ayb_jobs.http.dashboard.clock import Clock
from ayb_jobs.http.dashboard.levels import most_of, points_of
from ayb_jobs.http.dashboard.limits import limits_context
from ayb_jobs.http.dashboard.shell import Blank, Fields, Visit, Visitor, query
from ayb_jobs.http.dashboard.words import SPANS
from ayb_jobs.http.edge.auth import Scope
from ayb_jobs.model.pauses import NewPause, Pause, PauseKind
from ayb_jobs.model.words import as_sentence, count_words, counted
from ayb_jobs.operations import queues as operations
from ayb_jobs.storage.clock import now
from ayb_jobs.storage.fleet.daemons import list_daemons
from ayb_jobs.storage.fleet.pauses import list_pauses, list_unconfirmed
from ayb_jobs.storage.queue.minutes import Level, list_levels

FORM = ("kind", "name", "until", "reason")
Unconfirmed = Mapping[tuple[PauseKind, str], Sequence[str]]


def add_to(routes: APIRouter) -> None:
    """Add the page of queues, and pausing and resuming."""
    routes.add_api_route("/queues", queues, methods=["GET"])
    routes.add_api_route("/queues/pause", ask_pause, methods=["GET"])
    routes.add_api_route("/queues/pause", pause, methods=["POST"])
    routes.add_api_route("/queues/resume", resume, methods=["POST"])


def queues(visit: Visitor) -> Response:
    """Show each queue, the types and keys that are paused, and each limit."""
    with visit.reading() as conn:
        at = now(conn)
        found = view_queues(conn, list_daemons(conn))
        others = [each for each in list_pauses(conn) if each.kind is not PauseKind.QUEUE]
        unconfirmed = list_unconfirmed(conn)
        levels = list_levels(conn, span=SPANS["hour"][1] or at - at)
        limits = limits_context(conn, visit.asked("limit"))
    clock = visit.clock(at)
    waiting = sum(each.state.waiting for each in found.first)
    levels = [*levels, Level(at, waiting, running=0, oldest_wait_s=0, cut=found.more)]
    most = most_of(levels, "waiting")
    return visit.page(
        "queues.html",
        now=at,
        title="Queues and limits",
        queues=[_queue(each, clock, unconfirmed) for each in found.first],
        more_queues=found.more,
        paused_others=[
            {"kind": each.kind, "name": each.name, "about": _about(each, clock, unconfirmed), "resume": _named(each)}
            for each in others
        ],
        levels=charts.line(points_of(levels, "waiting", at), f"Waiting jobs in the last hour: at most {most}"),
        levels_note=f"the last hour; most: {most}",
        **limits,
    )


def _queue(view: QueueView, clock: Clock, unconfirmed: Unconfirmed) -> dict[str, Any]:
    of = "no daemon"
    if view.daemons:
        of = f"{count_words(view.daemons, 'daemon')}, {count_words(view.slots, 'slot')}"
    return {
        "state": view.state,
        "word": (view.kind, view.word),
        "waiting": counted(view.state.waiting),
        "running": counted(view.state.running, cut=view.state.cut),
        "served": of,
        "about": _about(view.pause, clock, unconfirmed) if view.pause else "",
        "resume": _named(view.pause) if view.pause else None,
        "pause_href": f"/queues/pause?{query(kind=PauseKind.QUEUE, name=view.state.queue)}",
    }


def _named(pause: Pause) -> dict[str, str]:
    return {"kind": str(pause.kind), "name": pause.name}


def _about(pause: Pause, clock: Clock, unconfirmed: Unconfirmed) -> str:
    """Say who paused it, since and until when and why, and which daemons have not heard of it."""
    until = f" until {clock.at(pause.until)}" if pause.until else ""
    reason = f": “{pause.reason}”" if pause.reason else ""
    missing = unconfirmed.get((pause.kind, pause.name), ())
    unheard = f"; not yet confirmed by {', '.join(missing)}" if missing else ""
    return f"by {pause.paused_by}, {clock.at(pause.paused_at)}{until}{reason}{unheard}"


def ask_pause(visit: Visitor) -> Response:
    """Show the form that pauses a queue, a type or a key."""
    visit.need(Scope.OPERATE)
    return _form(visit, Blank({name: visit.asked(name, 301) for name in FORM}))


def _form(visit: Visit, typed: Blank, wrong: Mapping[str, str] | None = None) -> Response:
    kind = typed["kind"] if typed["kind"] in list(PauseKind) else PauseKind.QUEUE
    return visit.page(
        "pause.html",
        status=400 if wrong else 200,
        title=f"Pause a {kind}",
        typed=Blank(typed | {"kind": kind}),
        wrong=Blank(wrong or {}),
        kinds=[(each.value, each.value) for each in PauseKind],
    )


def pause(visit: Visitor, fields: Fields) -> Response:
    """Pause a queue, a type or a key, or tell what is wrong with what was typed."""
    visit.need(Scope.OPERATE)
    typed = Blank({name: fields.get(name, "").strip() for name in FORM})
    try:
        kind = _kind(typed["kind"])
        with visit.reading() as conn:
            until = visit.clock(now(conn)).read(typed["until"], "until")
        new = NewPause(kind=kind, name=typed["name"], reason=typed["reason"] or None, until=until)
    except InvalidInput as error:
        field = "name" if error.field in list(PauseKind) else error.field
        return _form(visit, typed, {field if field in FORM else "form": as_sentence(str(error))})
    with visit.acting(Scope.OPERATE) as (conn, actor):
        operations.pause(conn, new, actor=actor)
    return visit.onward("/queues", f"paused_{kind}")


def resume(visit: Visitor, fields: Fields) -> Response:
    """Let the jobs of a queue, a type or a key start again."""
    kind = _kind(fields.get("kind", ""))
    with visit.acting(Scope.OPERATE) as (conn, actor):
        operations.resume(conn, kind, fields.get("name", ""), actor=actor)
    return visit.onward("/queues", f"resumed_{kind}")


def _kind(text: str) -> PauseKind:
    if text not in list(PauseKind):
        raise InvalidInput(f"there is no such kind; there are {', '.join(PauseKind)}", field="kind")
    return PauseKind(text)
