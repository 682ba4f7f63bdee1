"""What happened to a job: its state in words, its attempts, and where its time went."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import pairwise, zip_longest
from typing import NamedTuple

from ayb_jobs.http.dashboard.charts import Share
from ayb_jobs.model.execution import Execution
from ayb_jobs.model.job import Job, JobState
from ayb_jobs.model.lifecycle import Outcome
from ayb_jobs.model.words import span_words

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


class Happened(NamedTuple):
    """A line of what happened to a job."""

    at: datetime
    kind: str
    lead: str
    words: str
    took: str
    error: str = ""


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


def what_happened(job: Job, attempts: Sequence[Execution], at: datetime, *, is_first: bool) -> Iterator[Happened]:
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


def time_spent(job: Job, attempts: Sequence[Execution], at: datetime) -> list[Share]:
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
