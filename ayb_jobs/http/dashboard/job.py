"""One job: why it waits, what happened to it, its payload and errors whole, and what can be done."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from ayb_jobs.errors import InvalidInput, NotFound
from ayb_jobs.http.dashboard import charts
from ayb_jobs.http.dashboard.happened import heading, time_spent, what_happened
from ayb_jobs.http.dashboard.payloads import as_command, as_curl, pretty, progress_of, steps_of
from ayb_jobs.http.dashboard.shell import Fields, Visitor, query
from ayb_jobs.http.edge.auth import Scope
from ayb_jobs.model.checked import checked_id
from ayb_jobs.model.job import Job, JobState
from ayb_jobs.model.unique import UNIQUE_WORDS
from ayb_jobs.model.waiting import WaitKind
from ayb_jobs.model.words import span_words
from ayb_jobs.operations import jobs as operations
from ayb_jobs.storage.audit import list_deeds
from ayb_jobs.storage.clock import now
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.waiting import why_waiting
from ayb_jobs.storage.queue.dependencies import list_family
from ayb_jobs.storage.queue.executions import list_executions
from ayb_jobs.storage.queue.jobs import get_job
from ayb_jobs.storage.schedules.schedules import get_schedule

ATTEMPTS = 20


JobId = Annotated[str, Path(alias="id")]


def add_to(routes: APIRouter) -> None:
    """Add the page of a job, and what can be done to it."""
    routes.add_api_route("/jobs/{id}", show, methods=["GET"])
    routes.add_api_route("/jobs/{id}/retry", retry, methods=["POST"])
    routes.add_api_route("/jobs/{id}/run-again", run_again, methods=["POST"])
    routes.add_api_route("/jobs/{id}/cancel", ask_cancel, methods=["GET"])
    routes.add_api_route("/jobs/{id}/cancel", cancel, methods=["POST"])


def show(visit: Visitor, job_id: JobId) -> Response:
    """Show one job."""
    before = visit.number("before")
    with visit.reading() as conn:
        at = now(conn)
        job = _found(conn, job_id)
        attempts = list_executions(conn, job_id=job.id, before=before, limit=ATTEMPTS)
        wait_reason = why_waiting(conn, job)
        deeds = list_deeds(conn, target=job.id, limit=10)
        schedule_name = _schedule_name(conn, job.schedule_id)
        family = list_family(conn, job.id)
    is_due = job.run_at <= at
    spent = time_spent(job, attempts, at) if len(attempts) < ATTEMPTS and before is None else []
    spent_s = sum(part.size for part in spent)
    return visit.page(
        "job.html",
        now=at,
        title=f"{job.type} {heading(job, is_due=is_due)[1]}",
        job=job,
        heading=heading(job, is_due=is_due),
        wait_reason=wait_reason,
        leads_on=leads_on(job, wait_reason.kind) if wait_reason else None,
        happened=list(what_happened(job, attempts, at, is_first=len(attempts) < ATTEMPTS)),
        more_attempts=attempts[-1].id if len(attempts) == ATTEMPTS else None,
        spent=spent,
        spent_s=spent_s,
        spent_title=f"Since it was due: {', '.join(f'{part.word} {span_words(part.size)}' for part in spent)}",
        shares=charts.shares,
        payload=pretty(job.payload_text),
        progress_value=progress_of(job.progress),
        as_command=as_command(job),
        as_curl=as_curl(job),
        deeds=deeds,
        schedule_name=schedule_name,
        family=family,
        unique=UNIQUE_WORDS.get(job.unique_scope or "", ""),
        steps=steps_of(job.steps_text),
        result=pretty(job.result_text) if job.result_text else "",
    )


def leads_on(job: Job, kind: WaitKind) -> tuple[str, str] | None:
    """Return where one sees what keeps a job: the link's words, and its address; None if this page tells all."""
    match kind:
        case WaitKind.PAUSED:
            return "Show what is paused", "/queues"
        case WaitKind.LIMITED:
            return "Show who holds it", f"/queues?{query(limit=job.limit)}"
        case WaitKind.BEHIND:
            return "Show what is ahead", f"/jobs?{query(state='waiting', queue=job.queue)}"
        case (
            WaitKind.NO_DAEMON
            | WaitKind.UNSERVED
            | WaitKind.UNKNOWN_TYPE
            | WaitKind.REFUSED
            | WaitKind.BUSY
            | WaitKind.DAEMON_GONE
        ):
            return "Show the daemons", "/daemons"
        case _:
            return None


def _found(conn: Connection, id_: str) -> Job:
    """Return a job; an id that is none is as good as one of no job."""
    try:
        checked_id(id_)
    except InvalidInput:
        raise NotFound(f"there is no job {id_[:100]}") from None
    return get_job(conn, id_)


def _schedule_name(conn: Connection, schedule_id: str | None) -> str:
    if schedule_id is None:
        return ""
    try:
        return get_schedule(conn, schedule_id).name
    except NotFound:
        return ""


def retry(visit: Visitor, _: Fields, job_id: JobId) -> Response:
    """Queue a failed job again."""
    with visit.acting(Scope.OPERATE) as (conn, actor):
        operations.retry(conn, job_id, actor=actor)
    return visit.onward(f"/jobs/{job_id}", "retried")


def run_again(visit: Visitor, fields: Fields, job_id: JobId) -> Response:
    """Make a new job of an old one, and show it."""
    with visit.acting(Scope.OPERATE) as (conn, actor):
        made = operations.run_again(
            conn, job_id, {}, actor=actor, defaults=visit.services.defaults, once=visit.once(fields)
        )
    return visit.onward(f"/jobs/{made.id}", "enqueued")


Running = Annotated[bool, Query(description="Also if it runs")]
EFFECTS = {
    "queued": "It ends canceled, and never runs. A job that is taken by a daemon meanwhile is left alone.",
    "running": "Its handler is told to stop, and whatever it does, the job ends canceled. What it has done stays done.",
}


def ask_cancel(visit: Visitor, job_id: JobId) -> Response:
    """Ask whether a queued or running job is meant to end."""
    visit.need(Scope.OPERATE)
    with visit.reading() as conn:
        at = now(conn)
        job = _found(conn, job_id)
    return visit.page(
        "ask.html",
        now=at,
        title=f"Cancel {job.type}?",
        question="Cancel this job?",
        about=f"{job.type} {job.id}, {heading(job, is_due=job.run_at <= at)[1]}.",
        effect=EFFECTS["running" if job.state is JobState.RUNNING else "queued"],
        action=f"/jobs/{job.id}/cancel{'?running=true' if job.state is JobState.RUNNING else ''}",
        word="Cancel this job",
        back=f"/jobs/{job.id}",
    )


def cancel(visit: Visitor, _: Fields, job_id: JobId, *, running: Running = False) -> Response:
    """Cancel a queued job, or one that runs."""
    with visit.acting(Scope.OPERATE) as (conn, actor):
        job = operations.cancel(conn, job_id, actor=actor, running=running)
    return visit.onward(f"/jobs/{job_id}", "canceling" if job.state is JobState.RUNNING else "canceled")
