"""Enqueue, cancel and retry one job."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ayb_jobs.client import enqueueing
from ayb_jobs.errors import Conflict
from ayb_jobs.model.actions import ActionTaken
from ayb_jobs.model.job import Job, NewJob, checked_id
from ayb_jobs.operations.acting import Actor, changing, record_made
from ayb_jobs.operations.defaults import FindDefaults
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue import jobs


class Enqueued(NamedTuple):
    """The job that an enqueue led to; `created` is false if an earlier job had its idempotency key."""

    job: Job
    created: bool


def enqueue(conn: Connection, given: Mapping[str, Any], *, actor: Actor, defaults: FindDefaults) -> Enqueued:
    """Enqueue the job that `given` describes, by the names of `NewJob`'s fields; what is None there was not given.

    If an earlier job of the same type has the idempotency key, that job is the answer and nothing is recorded. Raises
    `InvalidInput` for a bad value, and `Conflict` if the key belongs to a job of another type.
    """
    new = _new_job(given, defaults)
    with conn.transaction():
        made = enqueueing.enqueue(conn, new)
        job = jobs.get_job(conn, made.id)
        if not made.created and job.type != new.type:
            raise Conflict(f"the idempotency key belongs to job {job.id}, which is of type {job.type}")
        if made.created:
            record_made(conn, "job", job.id, actor=actor, action="job.enqueue")
    if made.created:
        enqueued = {job.type: 1}
        actor.tell(ActionTaken(actor=actor.name, action="job.enqueue", target=job.id, enqueued=enqueued))
    return Enqueued(job, made.created)


def _new_job(given: Mapping[str, Any], defaults: FindDefaults) -> NewJob:
    """Return the job that is asked for, with its type's payload and attempts if they are not given."""
    said = {name: value for name, value in given.items() if value is not None}
    known = defaults(said["type"])
    new = NewJob(**{"payload": known.payload, "max_attempts": known.max_attempts, **said})
    known.bounds.check(new.payload)
    return new


def cancel(conn: Connection, job_id: str, *, actor: Actor) -> Job:
    """Cancel a queued job and return it.

    Raises `InvalidInput` for an id that is no UUID, `NotFound`, or `Conflict` if the job is in any other state.
    """
    return _change(conn, job_id, jobs.cancel_job, actor, "job.cancel")


def retry(conn: Connection, job_id: str, *, actor: Actor) -> Job:
    """Queue a failed job again, due now, with all its attempts, and return it. Raises as `cancel` does."""
    return _change(conn, job_id, jobs.retry_job, actor, "job.retry")


def _change(conn: Connection, job_id: str, change: Callable[[Connection, str], Job], actor: Actor, action: str) -> Job:
    target = checked_id(job_id)
    with changing(conn, "job", target, actor=actor, action=action):
        return change(conn, target)
