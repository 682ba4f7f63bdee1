"""Why a queued job waits."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from ayb_jobs.model.instants import instant_text
from ayb_jobs.model.job import Job
from ayb_jobs.model.names import did_you_mean
from ayb_jobs.model.pauses import Pause

# So many jobs ahead of one are counted; more are as good as that.
MOST_AHEAD = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """What a live daemon can run: jobs of these types, from these queues."""

    types: Sequence[str]
    queues: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a queued job waits amid.

    `is_due` is by the database's clock. `last_seen` is when any daemon was last heard of; None where none was within a
    day. `ahead` counts, up to `MOST_AHEAD`, the due jobs of its queue that live daemons can run and that are leased
    before it. `pause` is of its queue or its type.
    """

    is_due: bool
    runners: Sequence[Runner]
    last_seen: datetime | None
    ahead: int
    pause: Pause | None = None


def wait_reason(job: Job, around: Surroundings) -> str | None:
    """Return in one line why a queued job waits; None where it is about to be leased, as far as can be seen."""
    if not around.is_due:
        return f"it is due only at {instant_text(job.run_at)}"
    if around.pause is not None:
        return around.pause.words
    return unserved_reason(job, around) or (ahead_words(around.ahead) if around.ahead else None)


def unserved_reason(job: Job, around: Surroundings) -> str | None:
    """Return why no live daemon can run a job; None if one can."""
    queues = {queue for runner in around.runners for queue in runner.queues}
    types = {name for runner in around.runners for name in runner.types}
    if not around.runners:
        return f"no daemon is alive; {last_heard(around.last_seen)}"
    if job.queue not in queues:
        return f"no live daemon serves its queue {job.queue}; served are {', '.join(sorted(queues))}"
    if job.type not in types:
        return f"no live daemon knows its type {job.type}{did_you_mean(job.type, types)}"
    if not any(job.queue in runner.queues and job.type in runner.types for runner in around.runners):
        return f"no live daemon that knows its type serves its queue {job.queue}"
    return None


def abandoned_reason(job: Job) -> str:
    """Say what becomes of a running job whose daemon is gone."""
    until = "" if job.lease_until is None else f", at {instant_text(job.lease_until)}"
    return f"its daemon {job.worker_id or 'unknown'} is gone; the job is due again once its lease has run out{until}"


def last_heard(last_seen: datetime | None) -> str:
    """Say when a daemon was last heard of."""
    if last_seen is None:
        return "none was heard of within a day"
    return f"the last was heard of at {instant_text(last_seen)}"


def ahead_words(ahead: int) -> str:
    """Say how many due jobs come first."""
    if ahead == 1:
        return "1 due job is ahead of it"
    return f"{'at least ' if ahead >= MOST_AHEAD else ''}{ahead:,} due jobs are ahead of it"


def unknown_type(job_type: str, known: Iterable[str]) -> str | None:
    """Return a warning where none of the live daemons, which know these types, knows a job type."""
    types = set(known)
    if job_type in types:
        return None
    return f"no live daemon knows the job type {job_type}{did_you_mean(job_type, types)}"
