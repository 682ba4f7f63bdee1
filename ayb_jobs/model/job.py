"""What a job is: as leased (`LeasedJob`), as recovery finds it (`LostLease`), and as an operator sees it (`Job`)."""

from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Any, NamedTuple

from ayb_jobs.frozen import frozen
from ayb_jobs.model.instants import instant

PRIORITIES = range(1, 5)
LAST_PRIORITY = max(PRIORITIES)


class JobState(StrEnum):
    """The five states of a job, spelled as AYB spells them."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"


class Lease(NamedTuple):
    """The right of one daemon or worker to run a job once: what every write about that run must show."""

    job_id: str
    lease_id: str


class LeasedJob(NamedTuple):
    """A job as the daemon that leased it holds it.

    A tuple, not a dataclass: tens of thousands are made each second, and making one costs a quarter of the time.
    The payload is JSON text and instants are the database's text, decoded only when asked for: the database knows
    payloads and instants (infinity, year 20000) that Python cannot hold, and one such row must not stop its batch.
    There is no text of a payload that would be too large.
    """

    id: str
    lease_id: str
    execution_id: int
    type: str
    payload_text: str | None
    queue: str
    priority: int
    attempt: int
    max_attempts: int
    crashes: int
    run_at_text: str
    scheduled_for_text: str | None
    schedule_id: str | None
    timeout_s: float | None
    traceparent: str | None
    batch_id: str | None = None

    @property
    def is_limited(self) -> bool:
        """Whether the job runs under a limit: its priority is raised then."""
        return self.priority > LAST_PRIORITY

    @property
    def lease(self) -> Lease:
        """The lease under which the job is held."""
        return Lease(self.id, self.lease_id)

    @property
    def run_at(self) -> datetime:
        """When the job was due, in UTC; clamped to what `datetime` can hold."""
        return instant(self.run_at_text)

    @property
    def scheduled_for(self) -> datetime | None:
        """The nominal fire time for which a schedule made the job, in UTC; None for other jobs."""
        return None if self.scheduled_for_text is None else instant(self.scheduled_for_text)


# Does what `LeasedJob._make` does, without a call of Python's own for each row of a batch.
as_leased = partial(tuple.__new__, LeasedJob)


@frozen
class LostLease:
    """A running job that its daemon lost, as recovery read it.

    `job.lease_id` is empty if another runner leased it, or plain SQL made it so. `lease_until` is the database's text.
    It has run for `ran_s` seconds. `of_the_dead`: its daemon is known to be dead, and the lease need not have run out.
    `is_canceling`: it is to end canceled.
    """

    job: LeasedJob
    worker_id: str | None
    lease_until: str | None
    ran_s: float
    records: int | None
    of_the_dead: bool
    is_canceling: bool = False


@frozen
class RecoveredJob:
    """A job taken from whoever lost it: queued again, failed if its chances are used up, or canceled."""

    id: str
    type: str
    state: str
    attempts: int
    crashes: int
    error: str


@frozen
class Job:
    """A row of the queue, as an operator sees it. `payload_text` is the payload's JSON as stored.

    `blocked_run_at` is when it is due once all jobs that it depends on have ended; None unless it waits for one.
    `batch_id` is the batch that it is a member of, if any.
    `limit` is the limit under which it was put, and `limit_key` its key there, else the one that was given.
    `result_text` is the JSON of what its handler returned. `steps_text` is the JSON of the steps that it has done.
    `unique_scope` tells how long it holds a unique key, if it holds one. Lists are without the three.
    `cancel_requested_at` is when somebody asked to cancel it while it ran, and `cancel_heard_at` when its daemon knew.
    """

    id: str
    type: str
    payload_text: str
    state: JobState
    queue: str
    priority: int
    run_at: datetime
    lease_until: datetime | None
    worker_id: str | None
    attempts: int
    max_attempts: int
    crashes: int
    last_error: str | None
    last_run_at: datetime | None
    idempotency_key: str | None
    limit: str | None
    limit_key: str | None
    schedule_id: str | None
    scheduled_for: datetime | None
    progress: Any
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None
    canceled_at: datetime | None
    blocked_run_at: datetime | None = None
    batch_id: str | None = None
    cancel_requested_at: datetime | None = None
    cancel_heard_at: datetime | None = None
    result_text: str | None = None
    steps_text: str | None = None
    unique_scope: str | None = None
