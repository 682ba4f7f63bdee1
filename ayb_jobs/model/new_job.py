"""A job as it is asked for (`NewJob`), with each of its values checked."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Self

from ayb_jobs.errors import InvalidInput
from ayb_jobs.model.checked import (
    MAX_IDEMPOTENCY_KEY,
    MAX_LIMIT_KEY,
    check_span,
    checked_id,
    checked_name,
    checked_text,
)
from ayb_jobs.model.dependencies import checked_parents, checked_rule
from ayb_jobs.model.instants import in_utc
from ayb_jobs.model.job import LAST_PRIORITY, PRIORITIES
from ayb_jobs.model.payload import encode_payload
from ayb_jobs.model.unique import Unique
from ayb_jobs.model.values import named

MAX_ATTEMPTS = 2**31 - 1
# Stands for a payload that is not given; None is one.
NO_PAYLOAD: Any = object()


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
        if (priority.__class__ is not int or not 1 <= priority <= LAST_PRIORITY) and not _is_priority(priority):
            raise InvalidInput(f"priority is {priority!r}; it goes from 1 (first) to 4", field="priority")
        if max_attempts.__class__ is bool or not isinstance(max_attempts, int) or not 1 <= max_attempts <= MAX_ATTEMPTS:
            raise InvalidInput(f"max_attempts is {max_attempts!r}; at least 1 is needed", field="max_attempts")
        if run_at is not None or delay is not None:
            run_at = _checked_times(run_at, delay)
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


def _is_priority(value: object) -> bool:
    """Tell whether a value is a priority: a number of an enum is one, and what only equals a number is none."""
    return isinstance(value, int) and not isinstance(value, bool) and value in PRIORITIES


def _checked_times(run_at: datetime | None, delay: timedelta | None) -> datetime | None:
    if run_at is not None and delay is not None:
        raise InvalidInput("give run_at or delay, not both", field="run_at")
    if run_at is not None and not isinstance(run_at, datetime):
        raise InvalidInput(f"run_at is {named(run_at)}; a datetime with a time zone is needed", field="run_at")
    if run_at is not None and run_at.tzinfo is None:
        raise InvalidInput("run_at has no time zone; add one, such as +00:00", field="run_at")
    if delay is not None and not isinstance(delay, timedelta):
        raise InvalidInput(f"delay is {named(delay)}; a timedelta is needed", field="delay")
    if delay is not None:
        check_span(delay, "delay")
    return None if run_at is None else in_utc(run_at, "run_at")


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
