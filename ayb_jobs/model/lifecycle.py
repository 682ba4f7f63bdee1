"""The state machine of a job, once: the legal transitions, and what each ending of an attempt leads to."""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from ayb_jobs.model.backoff import Backoff
from ayb_jobs.model.job import JobState, LeasedJob, LostLease
from ayb_jobs.model.results import Cancel, Result, Returned, Snooze

# Longer errors are cut in the middle, so that both the exception's name and its last line survive.
MAX_ERROR = 16 * 1024

TRANSITIONS: Mapping[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.CANCELED}),
    JobState.RUNNING: frozenset({JobState.COMPLETED, JobState.QUEUED, JobState.FAILED, JobState.CANCELED}),
    JobState.COMPLETED: frozenset(),
    JobState.FAILED: frozenset({JobState.QUEUED}),
    JobState.CANCELED: frozenset(),
}


class ByHand(NamedTuple):
    """What an operator may do to a job: the state in which it must be, the one that follows, and the rule in words."""

    begins: JobState
    ends: JobState
    rule: str


CANCELING = ByHand(JobState.QUEUED, JobState.CANCELED, "only queued jobs can be canceled")
CANCELING_RUNNING = ByHand(JobState.RUNNING, JobState.CANCELED, "only queued and running jobs can be canceled")
RETRYING = ByHand(JobState.FAILED, JobState.QUEUED, "only failed jobs can be retried")


def stays(job_id: str) -> str:
    """Say that a job could be changed, and was not."""
    return f"job {job_id} stays as it was: a trigger or a rule on its table keeps it so"


class Outcome(StrEnum):
    """How an attempt ended, as its execution row tells it."""

    COMPLETED = "completed"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    DISCARDED = "discarded"
    CANCELED = "canceled"
    SNOOZED = "snoozed"
    LOST = "lost"


CANCELED_WHILE_IT_RAN = "canceled while it ran"
# Looking a member up in its class takes as long as half of the rest of `settle_result`, which runs for each job.
COMPLETED, COMPLETED_RUN = JobState.COMPLETED, Outcome.COMPLETED


class Settlement(NamedTuple):
    """What the end of one attempt does to its job.

    `delay_s` is the wait before the next attempt, set only if `state` is queued. `started` and `ended` are when the
    handler began and ended, on the process's monotonic clock. `result` is the JSON text of what the
    handler returned, if it is to be kept.
    """

    job: LeasedJob
    state: JobState
    outcome: Outcome
    delay_s: float | None
    error: str | None
    records: int | None
    started: float
    ended: float
    result: str | None = None


def settle_result(
    job: LeasedJob, result: Result, started: float, ended: float, *, reported: int | None = None
) -> Settlement:
    """Decide what a handler's return value does to its job. `reported` are its records, if it returns no count."""
    if result is None:  # so most runs end, and a named tuple's own constructor takes three times as long
        return tuple.__new__(Settlement, (job, COMPLETED, COMPLETED_RUN, None, None, reported, started, ended, None))
    match result:
        case int():
            return Settlement(job, COMPLETED, COMPLETED_RUN, None, None, int(result), started, ended)
        case Returned():
            return Settlement(job, COMPLETED, COMPLETED_RUN, None, None, reported, started, ended, result.text)
        case Snooze():
            return Settlement(job, JobState.QUEUED, Outcome.SNOOZED, result.seconds, None, None, started, ended)
        case Cancel():
            reason = storable_error(result.reason)
            return Settlement(job, JobState.CANCELED, Outcome.CANCELED, None, reason, None, started, ended)


def settle_failure(
    job: LeasedJob,
    error: str,
    started: float,
    ended: float,
    *,
    backoff: Backoff,
    chance: float,
    outcome: Outcome = Outcome.FAILED,
    records: int | None = None,
    retry_after_s: float | None = None,
) -> Settlement:
    """Decide what a failed attempt does to its job: another attempt after backoff, or failed for good.

    `retry_after_s` is the wait before the next attempt, if what failed asked for one.
    """
    text = storable_error(error)
    if outcome is Outcome.DISCARDED or job.attempt >= job.max_attempts:
        return Settlement(job, JobState.FAILED, outcome, None, text, records, started, ended)
    delay_s = backoff.delay_s(job.attempt, chance) if retry_after_s is None else retry_after_s
    return Settlement(job, JobState.QUEUED, outcome, delay_s, text, records, started, ended)


def settle_canceled(ended: Settlement) -> Settlement:
    """Return how an attempt ends whose job was asked to end canceled while it ran, whatever came of the attempt."""
    if ended.outcome is Outcome.CANCELED:
        return ended
    if ended.state is JobState.COMPLETED:
        error = f"{CANCELED_WHILE_IT_RAN}; its handler came to its end all the same"
    else:
        error = f"{CANCELED_WHILE_IT_RAN}: {ended.error}" if ended.error else CANCELED_WHILE_IT_RAN
    return ended._replace(
        state=JobState.CANCELED, outcome=Outcome.CANCELED, delay_s=None, error=storable_error(error), result=None
    )


def settle_lost(lost: LostLease, *, max_crashes: int, backoff: Backoff, chance: float, now: float) -> Settlement:
    """Decide what a lost lease does to its job: another attempt, or failed if its attempts or crashes are used up.

    If the job was to end canceled, it does.

    A job whose next crash would be its last waits apart from those that were lost with it. `now` is the present on the
    clock of `Settlement.started`.
    """
    job = lost.job
    crashes = max(job.crashes, 0) + 1  # plain SQL may write any number
    what = f"lease lost by worker {lost.worker_id or 'unknown'}"
    if lost.is_canceling:
        error = f"{CANCELED_WHILE_IT_RAN}; {what}"
        return Settlement(job, JobState.CANCELED, Outcome.CANCELED, None, error, lost.records, now - lost.ran_s, now)
    delay_s: float | None = None
    if job.attempt >= job.max_attempts:
        error = f"{what}; attempts used up ({job.attempt} of {job.max_attempts})"
    elif crashes >= max_crashes:
        error = f"{what}; crashes used up ({crashes} of {max_crashes})"
    else:
        error = f"{what} (attempt {job.attempt} of {job.max_attempts})"
        delay_s = _delay_after_loss(lost, is_last_chance=crashes >= max_crashes - 1, backoff=backoff, chance=chance)
    state = JobState.FAILED if delay_s is None else JobState.QUEUED
    return Settlement(job, state, Outcome.LOST, delay_s, error, lost.records, now - lost.ran_s, now)


def _delay_after_loss(lost: LostLease, *, is_last_chance: bool, backoff: Backoff, chance: float) -> float:
    if is_last_chance:
        return backoff.apart_delay_s(lost.ran_s, chance)
    return 0.0 if lost.of_the_dead else backoff.delay_s(lost.job.attempt, chance)


def storable_error(text: str) -> str:
    """Return an error text that PostgreSQL stores: no NUL, no lone surrogate, at most 16 KiB, cut in the middle."""
    clean = text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8", "replace")
    if len(clean) <= MAX_ERROR:
        return clean
    half = MAX_ERROR // 2
    return f"{clean[:half]}\n… {len(clean) - 2 * half} characters left out …\n{clean[-half:]}"
