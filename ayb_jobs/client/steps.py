"""What an enqueue sends, and what follows from the answers, without the sending: the same for every driver.

Each function is a generator: it yields a statement with its values, and is sent the first row that came back, or None.
"""

import os
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from ayb_jobs.errors import Conflict, NotFound, NotTaken
from ayb_jobs.model.batches import NewBatch
from ayb_jobs.model.checked import checked_id
from ayb_jobs.model.digits import json_text
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.model.unique import Unique
from ayb_jobs.model.values import named
from ayb_jobs.storage.queue.enqueueing import (
    DROPPED,
    ENQUEUE,
    ENQUEUE_BEFORE_18,
    ENQUEUE_LIMITED,
    ENQUEUE_LIMITED_BEFORE_18,
    ENQUEUE_UNIQUE,
    FIND_BY_KEY,
    INSERT_DEPENDENT_JOBS,
    INSERT_DEPENDENT_MEMBERS,
    INSERT_JOBS,
    INSERT_LIMITED_DEPENDENT_JOBS,
    INSERT_LIMITED_JOBS,
    INSERT_MEMBERS,
    INSERT_UNIQUE_JOBS,
    JOIN_BATCH,
    MAKES_IDS_ITSELF,
    OPEN_BATCH,
    ORDER_UNIQUE_JOBS,
    SEAL_BATCH,
)
from ayb_jobs.tracing import current_traceparent

# How often an enqueue asks anew for a key that is taken by a job that it does not find.
TRIES = 100

T = TypeVar("T")
Asked = tuple[str, Mapping[str, Any]]
Row = Sequence[Any]
Steps = Generator[Asked, Row | None, T]


class Enqueued(NamedTuple):
    """The job that an enqueue led to; `created` is false if its key was taken by an earlier one."""

    id: str
    created: bool


def checked(job: object) -> NewJob:
    """Return what is a job; raises `NotTaken`."""
    if isinstance(job, NewJob):
        return job
    raise NotTaken(f"{named(job)} was given for a job; a NewJob is taken", field="job")


def enqueue_one(job: NewJob, server_version: int) -> Steps[Enqueued]:
    """Insert a job, or find the one that has its key. Raises `Conflict` if neither can be done."""
    if job.unique is not None:
        return (yield from _enqueue_unique(job, job.unique))
    if job.depends_on or job.batch_id is not None:
        return (yield from _enqueue_by_id(job))
    values = _values(job) | {"idempotency_key": job.idempotency_key}
    statement = ENQUEUE if server_version >= MAKES_IDS_ITSELF else ENQUEUE_BEFORE_18
    if job.limit_key is not None:
        statement = ENQUEUE_LIMITED if server_version >= MAKES_IDS_ITSELF else ENQUEUE_LIMITED_BEFORE_18
        values["limit_key"] = job.limit_key
    for _ in range(TRIES):
        if added := (yield statement, values):
            return Enqueued(added[0], created=True)
        if job.idempotency_key is None:
            raise Conflict(DROPPED)
        # A statement of its own: the key's holder may have been committed while the insert ran, unseen by it.
        if found := (yield FIND_BY_KEY, {"idempotency_key": job.idempotency_key}):
            return Enqueued(found[0], created=False)
        # The holder was deleted in between, so the key is free again.
    raise Conflict(_key_is_hidden(job))


def _key_is_hidden(job: NewJob) -> str:
    return (
        f"the job was not made: its idempotency key {job.idempotency_key!r} is taken by a job that this user cannot see, "
        "or a trigger on _ayb_jobs drops it"
    )


def _enqueue_by_id(job: NewJob) -> Steps[Enqueued]:
    """Insert a job that waits for others or is a member of a batch, or find the one that has its key."""
    insert = _insert_dependent if job.depends_on else _insert
    for id_ in islice(time_ordered_ids(), TRIES):
        if (yield from insert([(id_, job)], current_traceparent())):
            return Enqueued(checked_id(id_), created=True)
        if job.idempotency_key is None:
            raise Conflict(DROPPED)
        if found := (yield FIND_BY_KEY, {"idempotency_key": job.idempotency_key}):
            return Enqueued(found[0], created=False)
    raise Conflict(_key_is_hidden(job))


def _enqueue_unique(job: NewJob, unique: Unique) -> Steps[Enqueued]:
    """Insert a job with a unique key, or find or replace the one that has it."""
    values = {
        "unique_key": unique.key,
        "unique_by": list(unique.by) or None,
        "scope": unique.scope_or_default,
        "on_conflict": unique.on_conflict,
        "max_wait": _interval(unique.max_wait),
    }
    row = yield ENQUEUE_UNIQUE, _values(job) | values
    job_id, became = row or ("", "dropped")
    if became == "found" and unique.on_conflict == "reject":
        raise Conflict(f"the unique key is taken by job {job_id}")
    if became == "runs":
        raise Conflict(f"the unique key is taken by job {job_id}, which runs and cannot be replaced")
    return Enqueued(job_id, created=became == "made")


def _values(job: NewJob) -> dict[str, Any]:
    return {
        "type": job.type,
        "payload": job.payload_text,
        "queue": job.queue,
        "priority": job.priority,
        "max_attempts": job.max_attempts,
        "run_at": _instant(job.run_at),
        "delay": _interval(job.delay),
        "traceparent": job.traceparent or current_traceparent(),
    }


def enqueue_all(jobs: Sequence[tuple[str, NewJob]], trace: str | None) -> Steps[int]:
    """Insert jobs, each with its id, and return how many were made."""
    plain = [pair for pair in jobs if pair[1].unique is None and not pair[1].depends_on]
    made = (yield from _insert(plain, trace)) if plain else 0
    if dependent := [pair for pair in jobs if pair[1].depends_on]:
        made += yield from _insert_dependent(dependent, trace)
    if unique := [(id_, job, job.unique) for id_, job in jobs if job.unique is not None]:
        insert = _insert_unique if all(how.on_conflict == "return" for *_, how in unique) else _call_unique
        made += yield from insert(unique, trace)
    return made


def _insert(jobs: Sequence[tuple[str, NewJob]], trace: str | None) -> Steps[int]:
    # In one order for all, so that two calls with the same keys wait for each other and never deadlock.
    asked = sorted(jobs, key=lambda pair: pair[1].idempotency_key or "")
    keys = {"idempotency_keys": _sparse([job.idempotency_key for _, job in asked])}
    return (yield from _insert_by(PLAIN, asked, _columns(asked, trace) | keys))


def _insert_dependent(jobs: Sequence[tuple[str, NewJob]], trace: str | None) -> Steps[int]:
    asked = sorted(jobs, key=lambda pair: pair[1].idempotency_key or "")
    more: dict[str, Any] = {
        "idempotency_keys": _sparse([job.idempotency_key for _, job in asked]),
        "parents": [json_text(list(job.depends_on)) for _, job in asked],
        "rules": [job.on_parent_failure for _, job in asked],
    }
    return (yield from _insert_by(DEPENDENT, asked, _columns(asked, trace) | more))


class _Ways(NamedTuple):
    """The statements that insert: one knows no later column, one knows keys of limits, and one batches, too."""

    plain: str
    limited: str
    members: str


PLAIN = _Ways(INSERT_JOBS, INSERT_LIMITED_JOBS, INSERT_MEMBERS)
DEPENDENT = _Ways(INSERT_DEPENDENT_JOBS, INSERT_LIMITED_DEPENDENT_JOBS, INSERT_DEPENDENT_MEMBERS)


def _insert_by(ways: _Ways, asked: Sequence[tuple[str, NewJob]], values: dict[str, Any]) -> Steps[int]:
    """Insert by the statement that knows all that is asked for, and none that the database may not have yet."""
    statement = ways.plain
    has_batch = any(job.batch_id is not None for _, job in asked)
    if has_batch or any(job.limit_key is not None for _, job in asked):
        statement = ways.members if has_batch else ways.limited
        values["limit_keys"] = [job.limit_key for _, job in asked]
    if has_batch:
        values["batch_ids"] = [job.batch_id for _, job in asked]
    made = yield statement, values
    if made and has_batch and made[2]:
        raise not_joined(*made[2].split(" "))
    return int(made[0]) if made else 0


def not_joined(batch_id: str, became: str) -> Exception:
    """Return the error about a batch that takes no members, as `_ayb_job_batch_join` says why."""
    if became == "missing":
        return NotFound(f"there is no batch {batch_id}")
    return Conflict(f"batch {batch_id} is {became}; it takes no more jobs")


def open_batch(new: NewBatch) -> Steps[str]:
    """Make a batch, and return its id."""
    values = {
        "description": new.description,
        "callbacks": new.callbacks_text,
        "traceparent": current_traceparent(),
    }
    row = yield OPEN_BATCH, values
    return str(row[0]) if row else ""


def join_batch(batch_id: str) -> Steps[None]:
    """Keep a batch from its end until the transaction has ended; raises if it takes no members."""
    row = yield JOIN_BATCH, {"batch_id": batch_id}
    if row and row[0] != "open":
        raise not_joined(batch_id, row[0])


def seal_batch(batch_id: str) -> Steps[None]:
    """Seal a batch; raises if there is none."""
    row = yield SEAL_BATCH, {"batch_id": batch_id}
    if not row or not row[0]:
        raise NotFound(f"there is no batch {batch_id}")


def _call_unique(jobs: Sequence[tuple[str, NewJob, Unique]], trace: str | None) -> Steps[int]:
    """Enqueue unique jobs one by one, in the order in which every call takes their keys."""
    made = 0
    for place in (yield from order_of_keys([(job, unique) for _, job, unique in jobs])):
        _, job, how = jobs[place]
        one = job if job.traceparent else job._replace(traceparent=trace)
        made += (yield from _enqueue_unique(one, how)).created
    return made


def order_of_keys(jobs: Sequence[tuple[NewJob, Unique]]) -> Steps[list[int]]:
    """Return the places of unique jobs in the order in which every call takes their keys, lest two wait in a circle."""
    values = {
        "types": [job.type for job, _ in jobs],
        "payloads": _sparse([job.payload_text if unique.by else None for job, unique in jobs]),
    }
    row = yield ORDER_UNIQUE_JOBS, values | _unique_columns([unique for _, unique in jobs])
    return [int(number) - 1 for number in str(row[0]).split()] if row else []


def _unique_columns(asked: Sequence[Unique]) -> dict[str, Any]:
    return {
        "unique_keys": _sparse([unique.key for unique in asked]),
        "unique_bys": _sparse([json_text(list(unique.by)) if unique.by else None for unique in asked]),
    }


def _insert_unique(jobs: Sequence[tuple[str, NewJob, Unique]], trace: str | None) -> Steps[int]:
    keys = _unique_columns([unique for *_, unique in jobs]) | {
        "scopes": [unique.scope_or_default for *_, unique in jobs]
    }
    made = yield INSERT_UNIQUE_JOBS, _columns([(id_, job) for id_, job, _ in jobs], trace) | keys
    return int(made[0]) if made else 0


def _columns(jobs: Sequence[tuple[str, NewJob]], trace: str | None) -> dict[str, Any]:
    return {
        "ids": [id_ for id_, _ in jobs],
        "types": [job.type for _, job in jobs],
        "payloads": [job.payload_text for _, job in jobs],
        "queues": [job.queue for _, job in jobs],
        "priorities": [job.priority for _, job in jobs],
        "max_attempts": [job.max_attempts for _, job in jobs],
        "run_ats": _sparse([_instant(job.run_at) for _, job in jobs]),
        "delays": _sparse([_interval(job.delay) for _, job in jobs]),
        "traceparents": _sparse([job.traceparent or trace for _, job in jobs]),
    }


def _sparse(values: list[str | None]) -> list[str | None] | None:
    """Return a column as it is, or None if nothing is in it: `unnest` fills up with nulls, and they cost nothing."""
    return None if values.count(None) == len(values) else values


def numbered_jobs(jobs: Iterable[NewJob]) -> Iterator[tuple[str, NewJob]]:
    """Yield each job with its id, each id higher than the one before; raises `NotTaken` for what is no job."""
    if isinstance(jobs, NewJob):
        raise NotTaken("a single NewJob was given; enqueue_many takes a list of them", field="jobs")
    try:
        given = iter(jobs)
    except TypeError:
        raise NotTaken(f"{named(jobs)} was given for jobs; a list of NewJob is taken", field="jobs") from None
    return (
        (id_, job if job.__class__ is NewJob else checked(job))  # a call for each would cost more than the look
        for id_, job in zip(time_ordered_ids(), given, strict=False)
    )


def random_bits(count: int) -> int:
    """Return so many random bits. The module `secrets` would load all of OpenSSL's hashes into every command."""
    return int.from_bytes(os.urandom((count + 7) // 8)) >> -count % 8


def time_ordered_ids() -> Iterator[str]:
    """Yield UUIDs of version 7, each higher than the one before: random bits counted up in random steps."""
    prefix = f"{time.time_ns() // 1_000_000:012x}7{random_bits(12):03x}"
    number = 0b10 << 62 | random_bits(61)
    step = random_bits(32) | 1
    while True:
        yield f"{prefix}{number:016x}"
        number += step


def _instant(run_at: datetime | None) -> str | None:
    return None if run_at is None else run_at.isoformat()


def _interval(delay: timedelta | None) -> str | None:
    """Return a delay as PostgreSQL's interval: seconds, so that a day is 24 hours in any time zone."""
    return None if delay is None else f"{delay.total_seconds():.6f} seconds"
