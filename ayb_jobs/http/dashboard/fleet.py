"""Queues, and daemons with what each runs."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from fastapi import APIRouter, Response

from ayb_jobs.checks.glance import QueueView, view_queues
from ayb_jobs.http.dashboard import charts
from ayb_jobs.http.dashboard.payloads import Progress, progress_of, progress_value
from ayb_jobs.http.dashboard.shell import Visitor
from ayb_jobs.http.dashboard.words import SPANS
from ayb_jobs.model.daemons import SeenDaemon
from ayb_jobs.model.words import count_words, counted, span_words
from ayb_jobs.storage.clock import now
from ayb_jobs.storage.fleet.daemons import ALIVE_S, list_daemons
from ayb_jobs.storage.queue.minutes import list_levels
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
    """Add the pages of queues and daemons."""
    routes.add_api_route("/queues", queues, methods=["GET"])
    routes.add_api_route("/daemons", daemons, methods=["GET"])


def queues(visit: Visitor) -> Response:
    """Show each queue."""
    with visit.reading() as conn:
        at = now(conn)
        found = view_queues(conn, list_daemons(conn))
        levels = list_levels(conn, span=SPANS["hour"][1] or at - at)
    most = max((each.waiting for each in levels), default=0)
    return visit.page(
        "queues.html",
        now=at,
        title="Queues",
        queues=[_queue(each) for each in found],
        levels=charts.line([each.waiting for each in levels], f"Waiting jobs in the last hour: at most {most:,}"),
        levels_note=f"the last hour; most: {most:,}",
    )


def _queue(view: QueueView) -> dict[str, Any]:
    of = "no daemon"
    if view.daemons:
        of = f"{count_words(view.daemons, 'daemon')}, {count_words(view.slots, 'slot')}"
    return {"state": view.state, "word": (view.kind, view.word), "waiting": counted(view.state.waiting), "served": of}


def daemons(visit: Visitor) -> Response:
    """Show each daemon and what it runs."""
    with visit.reading() as conn:
        at = now(conn)
        daemons = list_daemons(conn, alive_s=DAY_S)
        running = [_running(each, visit) for each in list_running(conn)]
    alive = [seen for seen in daemons if seen.silent_s <= ALIVE_S]
    known = {seen.daemon.id for seen in alive}
    slots = sum(seen.daemon.concurrency for seen in alive)
    gone = len(daemons) - len(alive)
    busy = sum(each.worker_id in known for each in running)
    return visit.page(
        "daemons.html",
        now=at,
        title="Daemons",
        summary=f"{len(alive)} alive{f', {gone} gone' if gone else ''}; {busy} of {count_words(slots, 'slot')} busy.",
        daemons=[_daemon(seen, running) for seen in sorted(daemons, key=lambda seen: -seen.silent_s // ALIVE_S)],
        orphans=[each for each in running if each.worker_id not in known],
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
    up = span_words((seen.heartbeat_at - seen.started_at).total_seconds())
    about = (
        f"host {daemon.host}, pid {daemon.pid}, version {daemon.version}, up {up}; serves {', '.join(daemon.queues)}"
    )
    return {
        "seen": seen,
        "word": _word_of(seen),
        "about": about,
        "slots": charts.slots(min(len(its), daemon.concurrency), daemon.concurrency, sum(each.is_past for each in its)),
        "running": its[:MOST_ROWS],
        "more": max(0, len(its) - MOST_ROWS),
    }


def _word_of(seen: SeenDaemon) -> tuple[str, str]:
    if seen.silent_s > ALIVE_S:
        return "gone", f"last heard of {span_words(seen.silent_s)} ago"
    return ("alive", "alive") if seen.drain_requested_at is None else ("off", "drains")
