"""What a job is: as asked for (`NewJob`), as leased (`LeasedJob`), and as an operator sees it (`Job`)."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple, Self

from ayb_jobs.errors import InvalidInput
from ayb_jobs.model.dependencies import checked_parents, checked_rule
from ayb_jobs.model.payload import encode_payload
from ayb_jobs.model.unique import Unique
from ayb_jobs.model.values import named

MAX_NAME = 100
MAX_IDEMPOTENCY_KEY = 255
MAX_LIMIT_KEY = 200
PRIORITIES = range(1, 5)
LAST_PRIORITY = max(PRIORITIES)
MAX_ATTEMPTS = 2**31 - 1
# Stands for a payload that is not given; None is one.
NO_PAYLOAD: Any = object()


class JobState(StrEnum):
    """The five states of a job, spelled as AYB spells them."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"


class Lease(NamedTuple):
    """One worker's right to run a job once: what every write about that run must show."""

    job_id: str
    lease_id: str


class LeasedJob(NamedTuple):
    """A job as its worker holds it.

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


@dataclass(frozen=True, slots=True, kw_only=True)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveredJob:
    """A job taken from a worker that lost it: queued again, failed if its chances are used up, or canceled."""

    id: str
    type: str
    state: str
    attempts: int
    crashes: int
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
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


class _Asked(NamedTuple):
    """The fields of a new job."""

    type: str
    payload: Any
    queue: str
    priority: int
    max_attempts: int
    run_at: datetime | None
    delay: timedelta | None
    idempotency_key: str | None
    traceparent: str | None
    unique: Unique | None
    depends_on: Sequence[str]
    on_parent_failure: str
    limit_key: str | None
    batch_id: str | None


class NewJob(_Asked):
    """A job to be enqueued. Raises `InvalidInput` if a value cannot be stored.

    The payload is `{}` if none is given. `run_at` is an instant with a time zone, and `delay` a time from now by the
    database's clock; one of the two may be given. A second job with the same `idempotency_key` is not made: enqueueing
    it answers with the first. `unique` makes it the only one of its key that waits or runs (`Unique`). `limit_key` is
    its key if its type is limited.

    `depends_on` are ids of jobs, or what `enqueue` returned for them: it waits until all of them have completed. If one
    failed or was canceled, `on_parent_failure` decides: "cancel" it, "run" it all the same, or "hold" it until that one
    is retried and completes. A job that is gone counts as completed.

    `batch_id` is the batch that it is a member of, one that is not done yet (`ayb_jobs.batch`).

    A tuple, not a dataclass, since an application makes them by the thousands, each at a third of the cost.
    """

    __slots__ = ()

    def __new__(  # noqa: D102 - the class says it
        cls,
        *,
        type: str,
        payload: Any = NO_PAYLOAD,
        queue: str = "default",
        priority: int = 2,
        max_attempts: int = 3,
        run_at: datetime | None = None,
        delay: timedelta | None = None,
        idempotency_key: str | None = None,
        traceparent: str | None = None,
        unique: Unique | None = None,
        depends_on: Sequence[Any] = (),
        on_parent_failure: str = "cancel",
        limit_key: str | None = None,
        batch_id: str | None = None,
    ) -> Self:
        if type.__class__ is not str or type not in _KNOWN_NAMES:
            _learned_name(type, "type")
        if queue.__class__ is not str or queue not in _KNOWN_NAMES:
            _learned_name(queue, "queue")
        if (priority.__class__ is not int or not 1 <= priority <= LAST_PRIORITY) and priority not in PRIORITIES:
            raise InvalidInput(f"priority is {priority!r}; it goes from 1 (first) to 4", field="priority")
        if not isinstance(max_attempts, int) or not 1 <= max_attempts <= MAX_ATTEMPTS:
            raise InvalidInput(f"max_attempts is {max_attempts!r}; at least 1 is needed", field="max_attempts")
        if run_at is not None or delay is not None:
            _check_times(run_at, delay)
        if idempotency_key is not None:
            checked_text(idempotency_key, "idempotency_key", MAX_IDEMPOTENCY_KEY)
        if unique is not None:
            _check_unique(unique, delay, idempotency_key)
        if limit_key is not None or batch_id is not None:
            batch_id = _checked_groups(limit_key, batch_id, unique)
        given = {} if payload is NO_PAYLOAD else payload
        parents: Sequence[str] = ()
        if depends_on or on_parent_failure != "cancel":
            parents = _checked_parents(depends_on, on_parent_failure, unique)
        key, trace, rule = idempotency_key, traceparent, on_parent_failure
        values = (
            type,
            given,
            queue,
            priority,
            max_attempts,
            run_at,
            delay,
            key,
            trace,
            unique,
            parents,
            rule,
            limit_key,
            batch_id,
        )
        return tuple.__new__(cls, values)

    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, Any]]:
        return (), self._asdict()

    @property
    def payload_text(self) -> str:
        """The payload as JSON; raises `InvalidInput` where it is none."""
        return encode_payload(self.payload)


def _check_times(run_at: datetime | None, delay: timedelta | None) -> None:
    if run_at is not None and delay is not None:
        raise InvalidInput("give run_at or delay, not both", field="run_at")
    if run_at is not None and not isinstance(run_at, datetime):
        raise InvalidInput(f"run_at is {named(run_at)}; a datetime with a time zone is needed", field="run_at")
    if run_at is not None and run_at.tzinfo is None:
        raise InvalidInput("run_at has no time zone; add one, such as +00:00", field="run_at")
    if delay is not None and not isinstance(delay, timedelta):
        raise InvalidInput(f"delay is {named(delay)}; a timedelta is needed", field="delay")


def _check_unique(unique: Unique, delay: timedelta | None, idempotency_key: str | None) -> None:
    if not isinstance(unique, Unique):
        raise InvalidInput(f"unique is {named(unique)}; a Unique is needed", field="unique")
    if idempotency_key is not None:
        raise InvalidInput("give idempotency_key or a unique key, not both", field="idempotency_key")
    unique.check_times(delay)


def _checked_parents(depends_on: Any, rule: Any, unique: Unique | None) -> Sequence[str]:
    parents = checked_parents(depends_on)
    checked_rule(rule)
    if not parents:
        raise InvalidInput("on_parent_failure goes with depends_on", field="on_parent_failure")
    if unique is not None:
        raise InvalidInput("give depends_on or a unique key, not both", field="depends_on")
    return parents


def _check_limit_key(limit_key: str, unique: Unique | None) -> None:
    checked_text(limit_key, "limit_key", MAX_LIMIT_KEY)
    if unique is not None:
        raise InvalidInput(
            "give limit_key or a unique key, not both; the limit can take its key from a field of the payload",
            field="limit_key",
        )


def _checked_groups(limit_key: str | None, batch_id: Any, unique: Unique | None) -> str | None:
    """Check what a job has in common with others; return its batch."""
    if limit_key is not None:
        _check_limit_key(limit_key, unique)
    return None if batch_id is None else checked_batch(batch_id, unique)


def checked_batch(batch_id: Any, unique: Unique | None) -> str:
    """Return the id of the batch that a job is to be a member of; raises `InvalidInput`."""
    if unique is not None:
        raise InvalidInput("give batch_id or a unique key, not both", field="batch_id")
    return checked_id(str(batch_id), "batch_id")


# Names that were found good, since jobs have few types and queues: a look into a set costs a third of a cached call.
_KNOWN_NAMES: set[str] = set()
MOST_KNOWN_NAMES = 1024


def _learned_name(value: str, field_name: str) -> None:
    """Check a name, and remember it; raises `InvalidInput`."""
    checked_name(value, field_name)
    if len(_KNOWN_NAMES) >= MOST_KNOWN_NAMES:
        _KNOWN_NAMES.clear()
    _KNOWN_NAMES.add(str(value))


def checked_name(value: str, field_name: str) -> str:
    """Return a name that the database takes: 1 to 100 characters, no NUL, no lone surrogate."""
    if not isinstance(value, str):
        raise InvalidInput(f"{field_name} is {named(value)}; a text is needed", field=field_name)
    if not value or not value.strip():
        raise InvalidInput(f"{field_name} is empty; it is required", field=field_name)
    return checked_text(value, field_name, MAX_NAME)


def checked_text(value: str, field_name: str, most: int) -> str:
    """Return a text that the database takes, or raise `InvalidInput` saying what is wrong with it."""
    if not isinstance(value, str):
        raise InvalidInput(f"{field_name} is {named(value)}; a text is needed", field=field_name)
    if len(value) > most:
        raise InvalidInput(f"{field_name} has {len(value)} characters; at most {most} are allowed", field=field_name)
    try:
        storable = b"\x00" not in value.encode()
    except UnicodeEncodeError:
        storable = False
    if not storable:
        raise InvalidInput(f"{field_name} holds a character that PostgreSQL cannot store", field=field_name)
    return value


def checked_id(value: str, field_name: str = "id") -> str:
    """Return a UUID as PostgreSQL writes it, or raise `InvalidInput`."""
    try:
        return str(uuid.UUID(value))
    except ValueError:
        raise InvalidInput(f"{field_name} {value!r} is not a UUID", field=field_name) from None


def instant(text: str) -> datetime:
    """Return PostgreSQL's ISO text of a timestamptz in UTC, clamped to what `datetime` can hold.

    Raises ValueError for text that is no timestamptz in ISO style.
    """
    if text == "-infinity" or text.endswith("BC"):
        return datetime.min.replace(tzinfo=UTC)
    if text == "infinity" or text.find("-") > len("9999"):
        return datetime.max.replace(tzinfo=UTC)
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC) if text.startswith("9999") else datetime.min.replace(tzinfo=UTC)
