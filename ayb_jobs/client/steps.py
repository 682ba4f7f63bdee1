"""What an enqueue sends, and what follows from the answers, without the sending: the same for every driver.

Each function is a generator: it yields a statement with its values, and is sent the first row that came back, or None.
"""

import os
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypeVar

from ayb_jobs.errors import Conflict, NotTaken
from ayb_jobs.model.job import NewJob
from ayb_jobs.model.values import named
from ayb_jobs.storage.queue.enqueueing import (
    ENQUEUE,
    ENQUEUE_BEFORE_18,
    FIND_BY_KEY,
    INSERT_JOBS,
    MAKES_IDS_ITSELF,
)
from ayb_jobs.tracing import current_traceparent

# How often an enqueue asks anew for a key that is taken by a job that it does not find.
TRIES = 100

T = TypeVar("T")
Asked = tuple[str, Mapping[str, Any]]
Row = Sequence[Any]
Steps = Generator[Asked, Row | None, T]


class Enqueued(NamedTuple):
    """The job that an enqueue led to; `created` is false if its idempotency key was taken by an earlier one."""

    id: str
    created: bool


def checked(job: object) -> NewJob:
    """Return what is a job; raises `NotTaken`."""
    if isinstance(job, NewJob):
        return job
    raise NotTaken(f"{named(job)} was given for a job; a NewJob is taken", field="job")


def enqueue_one(job: NewJob, server_version: int) -> Steps[Enqueued]:
    """Insert a job, or find the one that has its idempotency key. Raises `Conflict` if neither can be done."""
    values = {
        "type": job.type,
        "payload": job.payload_text,
        "queue": job.queue,
        "priority": job.priority,
        "max_attempts": job.max_attempts,
        "run_at": _instant(job.run_at),
        "delay": _interval(job.delay),
        "idempotency_key": job.idempotency_key,
        "traceparent": job.traceparent or current_traceparent(),
    }
    statement = ENQUEUE if server_version >= MAKES_IDS_ITSELF else ENQUEUE_BEFORE_18
    for _ in range(TRIES):
        if added := (yield statement, values):
            return Enqueued(added[0], created=True)
        if job.idempotency_key is None:
            raise Conflict("the job was not made: a trigger or a rule on _ayb_jobs drops it")
        # A statement of its own: the key's holder may have been committed while the insert ran, unseen by it.
        if found := (yield FIND_BY_KEY, {"idempotency_key": job.idempotency_key}):
            return Enqueued(found[0], created=False)
        # The holder was deleted in between, so the key is free again.
    raise Conflict(
        f"the job was not made: its idempotency key {job.idempotency_key!r} is taken by a job that this user cannot see, "
        "or a trigger on _ayb_jobs drops it"
    )


def enqueue_all(jobs: Sequence[tuple[str, NewJob]], trace: str | None) -> Steps[int]:
    """Insert jobs, each with its id, and return how many were made."""
    if not jobs:
        return 0
    # In one order for all, so that two calls with the same keys wait for each other and never deadlock.
    asked = sorted(jobs, key=lambda pair: pair[1].idempotency_key or "")
    made = yield (
        INSERT_JOBS,
        {
            "ids": [id_ for id_, _ in asked],
            "types": [job.type for _, job in asked],
            "payloads": [job.payload_text for _, job in asked],
            "queues": [job.queue for _, job in asked],
            "priorities": [job.priority for _, job in asked],
            "max_attempts": [job.max_attempts for _, job in asked],
            "run_ats": [_instant(job.run_at) for _, job in asked],
            "delays": [_interval(job.delay) for _, job in asked],
            "idempotency_keys": [job.idempotency_key for _, job in asked],
            "traceparents": [job.traceparent or trace for _, job in asked],
        },
    )
    return int(made[0]) if made else 0


def numbered_jobs(jobs: Iterable[NewJob]) -> Iterator[tuple[str, NewJob]]:
    """Yield each job with its id, each id higher than the one before; raises `NotTaken` for what is no job."""
    if isinstance(jobs, NewJob):
        raise NotTaken("a single NewJob was given; enqueue_many takes a list of them", field="jobs")
    try:
        given = iter(jobs)
    except TypeError:
        raise NotTaken(f"{named(jobs)} was given for jobs; a list of NewJob is taken", field="jobs") from None
    return ((id_, checked(job)) for id_, job in zip(time_ordered_ids(), given, strict=False))


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
