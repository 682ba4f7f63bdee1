"""Cancel or retry many jobs by filter, in short steps, or count them first."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from ayb_jobs.model.actions import ActionTaken
from ayb_jobs.model.filters import Filter
from ayb_jobs.model.job import JobState
from ayb_jobs.operations.acting import Actor, Begin
from ayb_jobs.storage.audit import record_deed
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue import bulk
from ayb_jobs.storage.queue.jobs import Position

# Jobs that one step changes; each step is a transaction of its own.
BATCH = 1000
# A call ends after so many steps, so that it outlasts no client's patience.
MOST_BATCHES = 20
TRIES = 10


class BulkAction(StrEnum):
    """What can be done to many jobs at once."""

    RETRY = "retry"
    CANCEL = "cancel"
    CANCEL_RUNNING = "cancel_running"


class Way(NamedTuple):
    """How an action is done: to jobs in which state, what state follows, and the step that does it."""

    before: JobState
    after: JobState
    step: Callable[..., bulk.Batch]


WAYS: Mapping[BulkAction, Way] = {
    BulkAction.RETRY: Way(JobState.FAILED, JobState.QUEUED, bulk.retry_jobs),
    BulkAction.CANCEL: Way(JobState.QUEUED, JobState.CANCELED, bulk.cancel_jobs),
    BulkAction.CANCEL_RUNNING: Way(JobState.RUNNING, JobState.RUNNING, bulk.cancel_running_jobs),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """How many jobs were changed; unless all that match were seen, the next call goes on behind `next`."""

    count: int
    next: Position | None = None


def count(conn: Connection, action: BulkAction, wanted: Filter) -> int:
    """Return how many jobs `change` would change now."""
    return bulk.count_jobs(conn, state=WAYS[action].before, wanted=wanted)


def most_calls(count: int) -> int:
    """Return how many calls of `change` see so many jobs, and some that are made meanwhile."""
    return count // (BATCH * MOST_BATCHES) + 2


def change(
    begin: Begin,
    action: BulkAction,
    wanted: Filter,
    *,
    actor: Actor,
    after: Position | None = None,
    most: int | None = None,
) -> Changed:
    """Retry the failed jobs that match, or cancel the queued or running ones, the oldest first, in `most` steps.

    It begins behind `after`, where the call before it ended. Each step is recorded as one deed that names every job in
    it. A job that somebody holds is passed over.
    """
    changed = 0
    for _ in range(most or MOST_BATCHES):
        batch = _step(begin, action, wanted, actor, after)
        if batch.rows:
            actor.tell(ActionTaken(actor=actor.name, action=_deed(action), target=None, count=batch.rows))
        changed += batch.rows
        after = batch.next
        if after is None:
            break
    return Changed(count=changed, next=after)


def _deed(action: BulkAction) -> str:
    """Return what an action is called in the audit trail."""
    return "jobs.retry" if action is BulkAction.RETRY else "jobs.cancel"


def _step(begin: Begin, action: BulkAction, wanted: Filter, actor: Actor, after: Position | None) -> bulk.Batch:
    for left in reversed(range(TRIES)):
        try:
            with begin() as conn:
                batch = WAYS[action].step(conn, wanted=wanted, limit=BATCH, after=after)
                if batch.rows:
                    _record(conn, action, wanted, batch, actor)
                return batch
        except bulk.KeyTaken:  # a job with the unique key of one of them was made since the step began
            if not left:
                raise
    raise AssertionError


def _record(conn: Connection, action: BulkAction, wanted: Filter, batch: bulk.Batch, actor: Actor) -> None:
    way = WAYS[action]
    asked = {"type": wanted.type, "queue": wanted.queue, **wanted.said(), "ids": batch.ids, "state": way.before}
    record_deed(
        conn,
        actor=actor.name,
        action=_deed(action),
        before_text=json.dumps(asked),
        after_text=json.dumps({"state": way.after, **({"canceling": True} if way.before is way.after else {})}),
    )
