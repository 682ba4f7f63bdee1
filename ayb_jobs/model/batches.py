"""Batches: jobs with one end, and what is enqueued when it comes."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from ayb_jobs.errors import InvalidInput
from ayb_jobs.frozen import frozen
from ayb_jobs.model.checked import checked_text
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.model.values import named

MAX_DESCRIPTION = 200
EVENTS: Sequence[str] = ("success", "failure", "done")
# What a callback's payload tells of its batch stands there.
TOLD = "batch"
# What a callback may say.
TAKEN = ("type", "payload", "queue", "priority", "max_attempts")
USUAL: Mapping[str, Any] = NewJob(type="any")._asdict()


class BatchState(StrEnum):
    """How far a batch is."""

    OPEN = "open"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@frozen
class NewBatch:
    """A batch that is asked for. Raises `InvalidInput` for what cannot be stored.

    `on_success` is enqueued once all members have completed, `on_failure` once all have ended if one failed or was
    canceled, or the batch was, and `on_done` in either case.
    """

    description: str | None = None
    on_success: NewJob | None = None
    on_failure: NewJob | None = None
    on_done: NewJob | None = None

    def __post_init__(self) -> None:
        if self.description is not None:
            checked_text(self.description, "description", MAX_DESCRIPTION)
        for event, job in self.callbacks.items():
            _check_callback(f"on_{event}", job)

    @property
    def callbacks(self) -> Mapping[str, NewJob]:
        """The callbacks that are given, by their events."""
        given = {event: getattr(self, f"on_{event}") for event in EVENTS}
        return {event: job for event, job in given.items() if job is not None}

    @property
    def callbacks_text(self) -> str:
        """The callbacks as JSON."""
        texts = (
            f'"{event}":{{"type":{json.dumps(job.type)},"payload":{job.payload_text},"queue":{json.dumps(job.queue)},'
            f'"priority":{job.priority},"max_attempts":{job.max_attempts}}}'
            for event, job in self.callbacks.items()
        )
        return f"{{{','.join(texts)}}}"


def _check_callback(name: str, job: Any) -> None:
    if not isinstance(job, NewJob):
        raise InvalidInput(f"{name} is {named(job)}; a NewJob is needed", field=name)
    for field, value in job._asdict().items():
        if field not in TAKEN and value != USUAL[field]:
            raise InvalidInput(f"{name} has {field}; a callback takes {', '.join(TAKEN)}", field=name)
    if not isinstance(job.payload, dict) or TOLD in job.payload:
        raise InvalidInput(f"the payload of {name} must be an object without a field {TOLD!r}", field=name)


class EndedBatch(NamedTuple):
    """A batch that is done, how its members ended, and whether it was canceled itself."""

    id: str
    completed: int
    failed: int
    canceled: int
    is_canceled: bool = False

    @property
    def state(self) -> BatchState:
        """Whether all of them completed, and nobody canceled it."""
        return _ended_state(self.failed + self.canceled, is_canceled=self.is_canceled)


def _ended_state(incomplete: int, *, is_canceled: bool) -> BatchState:
    return BatchState.FAILED if incomplete or is_canceled else BatchState.SUCCEEDED


@frozen
class Callback:
    """What a batch enqueues at an event. `state` is that of its job, None if that is not made, or gone."""

    event: str
    job_id: str
    type: str
    state: str | None


@frozen
class Batch:
    """A batch and how far its members are: as they are until it is done, and as they were then after that.

    `first_failed_id` is the member that failed first, of those that have failed, and `first_error` its error. If it is
    `cut`, not all members were counted: there are at least so many of each state.
    """

    id: str
    description: str | None
    created_at: datetime
    sealed_at: datetime | None
    canceled_at: datetime | None
    done_at: datetime | None
    queued: int
    running: int
    completed: int
    failed: int
    canceled: int
    first_failed_id: str | None
    first_error: str | None
    callbacks: Sequence[Callback]
    cut: bool = False

    @property
    def state(self) -> BatchState:
        """How far it is."""
        if self.done_at is not None:
            return _ended_state(self.failed + self.canceled, is_canceled=self.canceled_at is not None)
        return BatchState.OPEN if self.sealed_at is None else BatchState.RUNNING

    @property
    def total(self) -> int:
        """How many members it has."""
        return self.queued + self.running + self.ended

    @property
    def ended(self) -> int:
        """How many of them have ended."""
        return self.completed + self.failed + self.canceled

    @property
    def percent(self) -> int | None:
        """How many of a hundred members have ended, rounded down; None if not all were counted."""
        if self.cut:
            return None
        return self.ended * 100 // self.total if self.total else 100 * (self.done_at is not None)

    @property
    def waits_for(self) -> str | None:
        """Say what it waits for; None once it is done."""
        if self.done_at is not None:
            return None
        left = self.queued + self.running
        members = f"{self._of_all(left)} to end" if left else None
        if self.sealed_at is None:
            return f"to be sealed, and {members}" if members else "to be sealed: more jobs may be added"
        return members or "a daemon that looks at it: all its jobs have ended"

    def _of_all(self, jobs: int) -> str:
        if self.cut:
            return f"at least {jobs:,} of its jobs"
        return f"{jobs:,} of its {self.total:,} jobs"
