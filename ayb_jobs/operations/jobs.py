"""Enqueue one job or some; cancel, retry and run again one."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ayb_jobs.client import enqueueing
from ayb_jobs.client.faults import worded
from ayb_jobs.client.steps import TRIES, enqueue_all, numbered_jobs, order_of_keys
from ayb_jobs.client.sync_drivers import Psycopg, run
from ayb_jobs.errors import Conflict, InvalidInput
from ayb_jobs.model.actions import ActionTaken
from ayb_jobs.model.backoff import Backoff
from ayb_jobs.model.checked import checked_id
from ayb_jobs.model.job import Job, JobState
from ayb_jobs.model.lifecycle import settle_lost
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.model.payload import decode_payload_exactly
from ayb_jobs.operations.acting import Actor, changing, record_made
from ayb_jobs.operations.defaults import FindDefaults
from ayb_jobs.storage.audit import record_deed, snapshot
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.daemons import ALIVE_S
from ayb_jobs.storage.fleet.waiting import why_waiting
from ayb_jobs.storage.queue import canceling, jobs
from ayb_jobs.storage.queue.awaited import tell_ended
from ayb_jobs.storage.queue.recovery import find_lease_of_the_gone, recover_jobs


class Enqueued(NamedTuple):
    """The job that an enqueue led to; `created` is false if an earlier job had its key.

    It may have been `replaced`: it has got the new job's values then.
    """

    job: Job
    created: bool
    replaced: bool = False


def enqueue(conn: Connection, given: Mapping[str, Any], *, actor: Actor, defaults: FindDefaults) -> Enqueued:
    """Enqueue the job that `given` describes, by the names of `NewJob`'s fields; what is None there was not given.

    If an earlier job of the same type has the idempotency key, that job is the answer and nothing is recorded. If one
    has the unique key, `unique` decides. Raises `InvalidInput` for a bad value, and `Conflict` if the key belongs to a
    job of another type, or is to be free and is not.
    """
    new = _new_job(given, defaults)
    with conn.transaction():
        answer = _one_made_or_found(conn, new)
        if not answer.created and answer.job.type != new.type:
            raise Conflict(f"the idempotency key belongs to job {answer.job.id}, which is of type {answer.job.type}")
        action = "job.enqueue" if answer.created else "job.replace"
        if answer.created or answer.replaced:
            record_made(conn, "job", answer.job.id, actor=actor, action=action)
    if answer.created or answer.replaced:
        enqueued = {answer.job.type: 1} if answer.created else {}
        actor.tell(ActionTaken(actor=actor.name, action=action, target=answer.job.id, enqueued=enqueued))
    return answer


def enqueue_unseen(conn: Connection, given: Mapping[str, Any], *, defaults: FindDefaults) -> tuple[NewJob, str, bool]:
    """Enqueue as `enqueue` does with the rights of an application, which may not read jobs; nothing is recorded.

    Return what was asked for, the id of the job that it led to, and whether that one is queued now: one that had the
    key already may be in any state.
    """
    new = _new_job(given, defaults)
    made = enqueueing.enqueue(conn, new)
    return new, made.id, made.created or (new.unique is not None and new.unique.replaces)


def _one_made_or_found(conn: Connection, new: NewJob) -> Enqueued:
    made = enqueueing.enqueue(conn, new)
    replaced = not made.created and new.unique is not None and new.unique.replaces
    return Enqueued(jobs.get_job(conn, made.id), made.created, replaced)


def enqueue_many(
    conn: Connection, given: Sequence[Mapping[str, Any]], *, actor: Actor, defaults: FindDefaults
) -> list[Enqueued]:
    """Enqueue the jobs that `given` describes, all or none, and answer for each in its order as `enqueue` does.

    One deed is recorded for all that were made. Raises as `enqueue` does, with the job's place in `given`.
    """
    asked = list(numbered_jobs(list(_new_jobs(given, defaults))))
    with conn.transaction():
        plain = iter(_made_or_found(conn, [pair for pair in asked if pair[1].unique is None]))
        unique = iter(_unique_made_or_found(conn, [new for _, new in asked if new.unique is not None]))
        answers = [next(plain if new.unique is None else unique) for _, new in asked]
        for number, (one, (_, new)) in enumerate(zip(answers, asked, strict=True)):
            if one.job.type != new.type:
                owner = f"job {one.job.id}, which is of type {one.job.type}"
                raise Conflict(f"[{number}]: the idempotency key belongs to {owner}")
        made = [one.job for one in answers if one.created]
        replaced = list(dict.fromkeys(one.job.id for one in answers if one.replaced))
        if replaced:
            after = {"ids": replaced, "state": "queued"}
            record_deed(conn, actor=actor.name, action="jobs.replace", after_text=json.dumps(after))
        if made:
            after = {"ids": [job.id for job in made], "state": "queued"}
            record_deed(conn, actor=actor.name, action="jobs.enqueue", after_text=json.dumps(after))
    if replaced:
        actor.tell(ActionTaken(actor=actor.name, action="jobs.replace", target=None, count=len(replaced)))
    if made:
        enqueued = Counter(job.type for job in made)
        actor.tell(
            ActionTaken(actor=actor.name, action="jobs.enqueue", target=None, count=len(made), enqueued=enqueued)
        )
    return answers


def _unique_made_or_found(conn: Connection, asked: Sequence[NewJob]) -> list[Enqueued]:
    answers: dict[int, Enqueued] = {}
    pairs = [(new, new.unique) for new in asked if new.unique is not None]
    if pairs:
        with worded():
            order = run(order_of_keys(pairs), Psycopg(conn).fetch)
        answers = {place: _one_made_or_found(conn, asked[place]) for place in order}
    return [answers[place] for place in range(len(asked))]


def _new_jobs(given: Sequence[Mapping[str, Any]], defaults: FindDefaults) -> Iterator[NewJob]:
    for number, one in enumerate(given):
        try:
            new = _new_job(one, defaults)
            new.payload_text  # noqa: B018 - raises for a payload that cannot be stored
        except InvalidInput as error:
            raise InvalidInput(f"[{number}]: {error}", field=f"[{number}].{error.field}") from None
        yield new


def _made_or_found(conn: Connection, asked: Sequence[tuple[str, NewJob]]) -> list[Enqueued]:
    """Insert jobs, and return each, or the one that has its key; a key's first job in `asked` is the one made."""
    answers: dict[str, Enqueued] = {}
    missing = list(asked)
    if not missing:
        return []
    for _ in range(TRIES):
        with worded():
            run(enqueue_all(missing, None), Psycopg(conn).fetch)
        keys = [new.idempotency_key for _, new in missing if new.idempotency_key is not None]
        found = jobs.find_jobs(conn, [id_ for id_, _ in missing], keys)
        by_id, by_key = {job.id: job for job in found}, {job.idempotency_key: job for job in found}
        for id_, new in missing:
            dashed = checked_id(id_)
            if dashed in by_id:
                answers[id_] = Enqueued(by_id[dashed], created=True)
            elif new.idempotency_key in by_key and new.idempotency_key is not None:
                answers[id_] = Enqueued(by_key[new.idempotency_key], created=False)
        # A key whose holder was deleted in between is free again.
        missing = [(id_, new) for id_, new in missing if id_ not in answers]
        if not missing:
            return [answers[id_] for id_, _ in asked]
        if any(new.idempotency_key is None for _, new in missing):
            raise Conflict("the jobs were not made: a trigger or a rule on _ayb_jobs drops some")
    raise Conflict("the jobs were not made: a key is taken by a job that this user cannot see, or a trigger drops one")


def _new_job(given: Mapping[str, Any], defaults: FindDefaults) -> NewJob:
    """Return the job that is asked for, with its type's payload and attempts if they are not given."""
    said = {name: value for name, value in given.items() if value is not None}
    known = defaults(said["type"])
    new = NewJob(**{"payload": known.payload, "max_attempts": known.max_attempts, **said})
    known.bounds.check(new.payload)
    return new


def cancel(conn: Connection, job_id: str, *, actor: Actor, running: bool = False, force: bool = False) -> Job:
    """Cancel a queued job and return it; with `running` or `force` also one that runs.

    A running job is returned as it still runs. Its handler is told, and whatever comes of the attempt, the job ends
    canceled. A second call changes nothing. With `force` it ends at once if its daemon is gone.

    Raises `InvalidInput` for an id that is no UUID, `NotFound`, or `Conflict` if the job is in any other state.
    """
    if not (running or force):
        return _change(conn, job_id, jobs.cancel_job, actor, "job.cancel")
    target = checked_id(job_id)
    with conn.transaction():
        before_text = snapshot(conn, "job", target)
        asked = canceling.cancel_running_job(conn, target)
        ended = force and _end_of_the_gone(conn, target)
        if changed := ended or not asked.was_asked:
            after_text = snapshot(conn, "job", target)
            record_deed(
                conn,
                actor=actor.name,
                action="job.cancel",
                target=target,
                before_text=before_text,
                after_text=after_text,
            )
        job = jobs.get_job(conn, target)
    if changed:
        actor.tell(ActionTaken(actor=actor.name, action="job.cancel", target=target))
    return job


def _end_of_the_gone(conn: Connection, job_id: str) -> bool:
    """End a job that is to end canceled, if its daemon is gone; tell whether it was ended."""
    lost = find_lease_of_the_gone(conn, job_id, alive_s=ALIVE_S)
    if lost is None:
        return False
    ended = settle_lost(lost, max_crashes=1, backoff=Backoff(), chance=0.0, now=time.monotonic())
    is_ended = bool(recover_jobs(conn, [(lost, ended)]).jobs)
    tell_ended(conn, [job_id] if is_ended else [])
    return is_ended


def retry(conn: Connection, job_id: str, *, actor: Actor) -> Job:
    """Queue a failed job again, due now, with all its attempts, and return it. Raises as `cancel` does.

    If it waits, the error says what for.
    """
    try:
        return _change(conn, job_id, jobs.retry_job, actor, "job.retry")
    except Conflict as error:
        job = jobs.get_job(conn, job_id)
        if job.state is not JobState.QUEUED:
            raise
        reason = why_waiting(conn, job)
        raise Conflict(f"{error}; {reason.words if reason else 'a daemon is about to lease it'}") from error


def run_again(
    conn: Connection,
    job_id: str,
    given: Mapping[str, Any],
    *,
    actor: Actor,
    defaults: FindDefaults,
    once: str | None = None,
) -> Job:
    """Make a new job of an old one in any state, due now, and return it.

    It has the type, queue, priority and attempts of the old one, and its payload unless `given` holds a `payload`. It
    has none of its keys. If a job has the idempotency key `once`, that one is the answer, and nothing is recorded.
    Raises `InvalidInput` for a bad id or payload, `NotFound`, and `PayloadUndecodable` if the old payload has to be
    read and cannot be.
    """
    target = checked_id(job_id)
    with conn.transaction():
        old = jobs.get_job(conn, target)
        payload = given["payload"] if "payload" in given else decode_payload_exactly(old.payload_text)
        defaults(old.type).bounds.check(payload)
        new = NewJob(
            type=old.type,
            payload=payload,
            queue=old.queue,
            priority=old.priority,
            max_attempts=jobs.attempts_given(conn, target),
            limit_key=None if "payload" in given else old.limit_key,
            idempotency_key=once,
        )
        made = enqueueing.enqueue(conn, new)
        job = jobs.get_job(conn, made.id)
        if not made.created:
            return job
        record_made(conn, "job", job.id, actor=actor, action="job.run_again", target=target)
    actor.tell(ActionTaken(actor=actor.name, action="job.run_again", target=target, enqueued={job.type: 1}))
    return job


def _change(conn: Connection, job_id: str, change: Callable[[Connection, str], Job], actor: Actor, action: str) -> Job:
    target = checked_id(job_id)
    with changing(conn, "job", target, actor=actor, action=action):
        return change(conn, target)
