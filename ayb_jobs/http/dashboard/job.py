"""One job: why it waits, what happened to it, its payload and errors whole, and what can be done."""

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise, zip_longest
from typing import Annotated, Any, NamedTuple

from fastapi import APIRouter, Path, Query, Response

from ayb_jobs.errors import InvalidInput, NotFound, PayloadUndecodable
from ayb_jobs.http.dashboard import charts
from ayb_jobs.http.dashboard.charts import Share
from ayb_jobs.http.dashboard.shell import Fields, Visitor
from ayb_jobs.http.edge.auth import Scope
from ayb_jobs.model.execution import Execution
from ayb_jobs.model.job import Job, JobState, checked_id
from ayb_jobs.model.lifecycle import Outcome
from ayb_jobs.model.payload import decode_payload
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
DEEPEST = 20
WHOLE = 100
# How an outcome is drawn: its shape, and its word.
OUTCOMES: dict[Outcome | None, tuple[str, str]] = {
    None: ("running", "runs"),
    Outcome.COMPLETED: ("completed", "completed"),
    Outcome.SNOOZED: ("later", "snoozed"),
    Outcome.FAILED: ("failed", "failed"),
    Outcome.TIMED_OUT: ("late", "timed out"),
    Outcome.DISCARDED: ("failed", "discarded"),
    Outcome.CANCELED: ("canceled", "canceled"),
    Outcome.LOST: ("gone", "lost"),
}


JobId = Annotated[str, Path(alias="id")]


class Happened(NamedTuple):
    """A line of what happened to a job."""

    at: datetime
    kind: str
    lead: str
    words: str
    took: str
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What a handler last said of its progress: a share in percent, if it told one, and words."""

    percent: float | None
    words: str


def add_to(routes: APIRouter) -> None:
    """Add the page of a job, and what can be done to it."""
    routes.add_api_route("/jobs/{id}", show, methods=["GET"])
    routes.add_api_route("/jobs/{id}/retry", retry, methods=["POST"])
    routes.add_api_route("/jobs/{id}/cancel", ask_cancel, methods=["GET"])
    routes.add_api_route("/jobs/{id}/cancel", cancel, methods=["POST"])


def show(visit: Visitor, job_id: JobId) -> Response:
    """Show one job."""
    before = visit.asked("before")
    with visit.reading() as conn:
        at = now(conn)
        job = _found(conn, job_id)
        attempts = list_executions(
            conn, job_id=job.id, before=int(before[:18]) if before.isdecimal() else None, limit=ATTEMPTS
        )
        wait_reason = why_waiting(conn, job)
        deeds = list_deeds(conn, target=job.id, limit=10)
        schedule_name = _schedule_name(conn, job.schedule_id)
        family = list_family(conn, job.id)
    is_due = job.run_at <= at
    spent = _spent(job, attempts, at) if len(attempts) < ATTEMPTS and not before else []
    spent_s = sum(part.size for part in spent)
    return visit.page(
        "job.html",
        now=at,
        title=f"{job.type} {heading(job, is_due=is_due)[1]}",
        job=job,
        heading=heading(job, is_due=is_due),
        wait_reason=wait_reason,
        happened=list(_happened(job, attempts, at, is_first=len(attempts) < ATTEMPTS)),
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
    )


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


def heading(job: Job, *, is_due: bool) -> tuple[str, str]:
    """Return a job's state as its page says it: its shape, and its words."""
    match job.state:
        case JobState.QUEUED if job.attempts:
            return "retry", f"waits for attempt {job.attempts + 1} of {job.max_attempts}"
        case JobState.QUEUED if job.blocked_run_at:
            return "later", "waits for other jobs"
        case JobState.QUEUED:
            return ("queued", "waits") if is_due else ("later", "is due later")
        case JobState.RUNNING:
            ending = ", to end canceled" if job.cancel_requested_at else ""
            return "running", f"runs, attempt {job.attempts} of {job.max_attempts}{ending}"
        case JobState.FAILED:
            return "failed", f"failed after {job.attempts} of {job.max_attempts} attempts"
        case _:
            return str(job.state), str(job.state)


def _happened(job: Job, attempts: Sequence[Execution], at: datetime, *, is_first: bool) -> Iterator[Happened]:
    """Yield what happened to a job, the earliest first."""
    oldest = attempts[-1] if attempts else None
    if is_first:
        due = (
            "blocked"
            if job.blocked_run_at
            else "due at once"
            if job.run_at <= job.created_at or oldest
            else "due later"
        )
        waited = oldest.started_at - job.created_at if oldest else None
        took = f"waited {span_words(waited.total_seconds())}" if waited else ""
        yield Happened(job.created_at, "queued", "", f"created, {due}" if not oldest else "created", took)
    for each, following in zip_longest(reversed(attempts), list(reversed(attempts))[1:]):
        yield _attempt(each, at)
        if following is not None and each.ended_at is not None:
            gap_s = (following.started_at - each.ended_at).total_seconds()
            yield Happened(each.ended_at, "later", "", f"waited for attempt {following.attempt}", span_words(gap_s))
    if job.state is JobState.CANCELED and job.canceled_at:
        yield Happened(job.canceled_at, "canceled", "", "canceled", "")
    elif job.state is JobState.QUEUED and attempts and attempts[0].ended_at:
        waits_s = (at - attempts[0].ended_at).total_seconds()
        words = "waits for a daemon" if job.run_at <= at else "backoff"
        yield Happened(attempts[0].ended_at, "retry", "", words, f"for {span_words(waits_s)}")


def _attempt(each: Execution, at: datetime) -> Happened:
    kind, word = OUTCOMES[each.outcome]
    ran_s = ((each.ended_at or at) - each.started_at).total_seconds()
    on = f" on {each.worker_id}" if each.worker_id else ""
    records = f", {each.records_processed:,} records" if each.records_processed is not None else ""
    return Happened(
        each.started_at,
        kind,
        f"Attempt {each.attempt}",
        f"{word}{on}{records}",
        f"{'runs' if each.outcome is None else 'ran'} {span_words(ran_s)}",
        (each.error or "").partition("\n")[0][:300],
    )


def _spent(job: Job, attempts: Sequence[Execution], at: datetime) -> list[Share]:
    """Return what a job's time went to since it was created: running, waiting before and between attempts."""
    if not attempts:
        return []
    ran = sum(((each.ended_at or at) - each.started_at).total_seconds() for each in attempts)
    first = (attempts[-1].started_at - job.created_at).total_seconds()
    between = sum(
        (later.started_at - earlier.ended_at).total_seconds()
        for later, earlier in pairwise(attempts)
        if earlier.ended_at
    )
    waits = (at - attempts[0].ended_at).total_seconds() if job.state is JobState.QUEUED and attempts[0].ended_at else 0
    runs = f"ran, in {len(attempts)} attempts" if len(attempts) > 1 else "ran"
    parts = [
        Share("waited for the first attempt", first, "f-idle"),
        Share(runs, ran, "f-run"),
        Share("waited for further attempts", between + waits, "f-warn"),
    ]
    return [part for part in parts if part.size > 0]


def pretty(text: str) -> str:
    """Return JSON on lines of its own, changed in nothing but its white space: digits stay as they are stored."""
    parts, depth, in_text, is_escaped = [], 0, False, False
    for place, letter in enumerate(text):
        if in_text:
            parts.append(letter)
            in_text, is_escaped = is_escaped or letter != '"', not is_escaped and letter == "\\"
        elif letter in "{[":
            depth += 1
            is_empty = text[place + 1 : place + 2] in ("}", "]")
            parts.append(letter if is_empty else letter + _line(depth))
        elif letter in "}]":
            depth -= 1
            parts.append(letter if text[place - 1] in "{[" else _line(depth) + letter)
        elif letter == ",":
            parts.append("," + _line(depth))
        elif letter == '"':
            in_text = True
            parts.append(letter)
        elif letter == ":":
            parts.append(": ")
        elif not letter.isspace():
            parts.append(letter)
    return "".join(parts)


def _line(depth: int) -> str:
    return "\n" + "  " * min(depth, DEEPEST)


def progress_value(text: str | None) -> Any:
    """Return stored progress as a value; as its text where Python cannot decode it."""
    try:
        return None if text is None else decode_payload(text)
    except PayloadUndecodable:
        return text


def progress_of(value: Any) -> Progress | None:
    """Return progress as it is shown: a number of percent where there is one, and the rest in words."""
    if value is None:
        return None
    if isinstance(value, bool | str):
        return Progress(percent=None, words=str(value))
    if isinstance(value, int | float):
        share = _percent(value)
        return Progress(percent=share, words="" if share is not None else str(value))
    if isinstance(value, dict):
        share = _percent(value.get("percent"))
        rest = {name: each for name, each in value.items() if name != "percent" or share is None}
        return Progress(percent=share, words=", ".join(f"{name}: {each}" for name, each in rest.items())[:500])
    return Progress(percent=None, words=json.dumps(value)[:500])


def _percent(value: Any) -> float | None:
    is_share = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= WHOLE
    return float(value) if is_share else None


def as_command(job: Job) -> str:
    """Return the command that enqueues such a job again."""
    words = ["ayb-jobs", "jobs", "enqueue", job.type, "--payload", job.payload_text]
    words += ["--queue", job.queue] if job.queue != "default" else []
    words += ["--priority", str(job.priority), "--max-attempts", str(job.max_attempts)]
    return shlex.join(words)


def as_curl(job: Job) -> str:
    """Return the call that enqueues such a job again."""
    fields = {"type": job.type, "queue": job.queue, "priority": job.priority, "maxAttempts": job.max_attempts}
    body = f'{json.dumps(fields, ensure_ascii=False)[:-1]}, "payload": {job.payload_text}}}'
    return (
        'curl -sS --fail-with-body -X POST "$URL/api/admin/jobs" -H "Authorization: Bearer $TOKEN" '
        f"-d {shlex.quote(body)}"
    )


def retry(visit: Visitor, _: Fields, job_id: JobId) -> Response:
    """Queue a failed job again."""
    with visit.acting(Scope.OPERATE) as (conn, actor):
        operations.retry(conn, job_id, actor=actor)
    return visit.onward(f"/jobs/{job_id}", "retried")


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
