"""Daemons with what each runs, and draining one."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from fastapi import APIRouter, Response

from ayb_jobs.errors import NotFound
from ayb_jobs.http.dashboard import charts
from ayb_jobs.http.dashboard.payloads import Progress, progress_of, progress_value
from ayb_jobs.http.dashboard.shell import Fields, Visitor, query
from ayb_jobs.http.edge.auth import Scope
from ayb_jobs.model.daemons import SeenDaemon, checked_daemon
from ayb_jobs.model.words import count_words, counted, span_words
from ayb_jobs.operations import daemons as operations
from ayb_jobs.storage.clock import now
from ayb_jobs.storage.fleet.daemons import ALIVE_S, MOST_RUNNING, find_daemon, list_daemons
from ayb_jobs.storage.queue.queues import RunningJob, list_running

DAY_S = 86400.0
MOST_ROWS = 12


class Running(NamedTuple):
    """A job that runs, as it is listed."""

    id: str
    type: str
    worker_id: str
    ran_s: float | None
    timeout_s: float | None
    is_past: bool
    progress: Progress | None


def add_to(routes: APIRouter) -> None:
    """Add the page of daemons, and draining one."""
    routes.add_api_route("/daemons", daemons, methods=["GET"])
    routes.add_api_route("/daemons/drain", ask_drain, methods=["GET"])
    routes.add_api_route("/daemons/drain", drain, methods=["POST"])


def daemons(visit: Visitor) -> Response:
    """Show each daemon and what it runs."""
    with visit.reading() as conn:
        at = now(conn)
        daemons = list_daemons(conn, alive_s=DAY_S)
        running = [_running(each, visit) for each in list_running(conn, limit=MOST_RUNNING)]
    alive = [seen for seen in daemons if seen.silent_s <= ALIVE_S]
    listed = {seen.daemon.id for seen in daemons}
    slots = sum(seen.daemon.slots for seen in alive)
    gone = len(daemons) - len(alive)
    busy = counted(sum(len(seen.running) for seen in alive), most=None, cut=any(seen.cut for seen in alive))
    return visit.page(
        "daemons.html",
        now=at,
        title="Daemons",
        summary=f"{len(alive)} alive{f', {gone} gone' if gone else ''}; {busy} of {count_words(slots, 'slot')} busy.",
        daemons=[_daemon(seen, running) for seen in sorted(daemons, key=lambda seen: -seen.silent_s // ALIVE_S)],
        orphans=[each for each in running if each.worker_id not in listed],
        is_cut=len(running) >= MOST_RUNNING,
    )


def _running(job: RunningJob, visit: Visitor) -> Running:
    known = visit.services.registry.get(job.type)
    timeout_s = job.timeout_s or (known.timeout_s if known else None)
    is_past = timeout_s is not None and (job.ran_s or 0) > timeout_s
    progress = progress_of(progress_value(job.progress_text))
    return Running(job.id, job.type, job.worker_id, job.ran_s, timeout_s, is_past, progress)


def _daemon(seen: SeenDaemon, running: Sequence[Running]) -> dict[str, Any]:
    daemon = seen.daemon
    its = [each for each in running if each.worker_id == daemon.id]
    more = len(seen.running) - len(its[:MOST_ROWS])
    up = f"was up {span_words(seen.known_s)}" if seen.silent_s > ALIVE_S else f"up {span_words(seen.up_s)}"
    about = f"host {daemon.host}, pid {daemon.pid}, version {daemon.version}, {up}; serves {', '.join(daemon.queues)}"
    return {
        "seen": seen,
        "word": _word_of(seen),
        "about": about,
        "slots": charts.slots(min(len(seen.running), daemon.slots), daemon.slots, sum(each.is_past for each in its)),
        "running": its[:MOST_ROWS],
        "more": counted(more, most=None, cut=seen.cut) if more > 0 else "",
        "drain_href": f"/daemons/drain?{query(id=daemon.id)}" if _takes_jobs(seen) else "",
    }


def _word_of(seen: SeenDaemon) -> tuple[str, str]:
    if seen.silent_s > ALIVE_S:
        return "gone", f"last heard of {span_words(seen.silent_s)} ago"
    if seen.stuck_loops:
        return "failed", f"no progress: {', '.join(seen.stuck_loops)}"
    if seen.stuck_slots:
        return "failed", f"{count_words(seen.stuck_slots, 'slot')} held by handlers that did not stop"
    return ("alive", "alive") if seen.drain_requested_at is None else ("off", "drains")


def _takes_jobs(seen: SeenDaemon) -> bool:
    return seen.silent_s <= ALIVE_S and seen.drain_requested_at is None


def ask_drain(visit: Visitor) -> Response:
    """Ask whether a daemon is meant to take no more jobs, and to end."""
    visit.need(Scope.ADMIN)
    id_ = checked_daemon(visit.asked("id"))
    with visit.reading() as conn:
        at = now(conn)
        seen = find_daemon(conn, id_)
    if seen is None:
        raise NotFound(f"there is no live daemon {id_[:200]}")
    return visit.page(
        "ask.html",
        now=at,
        title="Drain this daemon?",
        question="Drain this daemon?",
        about=f"{id_}; {count_words(len(seen.running), 'job runs', 'jobs run', cut=seen.cut)} there.",
        effect="It takes no more jobs, and its process ends when its handlers have. Nothing tells them to. "
        "Whoever supervises it may start it again.",
        action="/daemons/drain",
        fields={"id": id_},
        word="Drain this daemon",
        back="/daemons",
    )


def drain(visit: Visitor, fields: Fields) -> Response:
    """Have a daemon take no more jobs, and end when its handlers have."""
    with visit.acting(Scope.ADMIN) as (conn, actor):
        operations.drain(conn, fields.get("id", ""), actor=actor)
    return visit.onward("/daemons", "drained")
