"""Make batches; seal and cancel them."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ayb_jobs.client import steps
from ayb_jobs.client.faults import worded
from ayb_jobs.client.sync_drivers import Psycopg, run
from ayb_jobs.errors import Conflict, InvalidInput
from ayb_jobs.model.actions import ActionTaken
from ayb_jobs.model.batches import Batch, NewBatch
from ayb_jobs.model.checked import checked_id
from ayb_jobs.model.filters import Filter
from ayb_jobs.operations import bulk, jobs
from ayb_jobs.operations.acting import Actor, Begin
from ayb_jobs.operations.defaults import FindDefaults
from ayb_jobs.storage.audit import record_deed
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue.batch_views import cancel_batch, get_batch

# A cancel changes at most so many thousand jobs.
MOST_STEPS = 200


def create(
    conn: Connection,
    new: NewBatch,
    given: Sequence[Mapping[str, Any]] = (),
    *,
    sealed: bool,
    actor: Actor,
    defaults: FindDefaults,
) -> Batch:
    """Make a batch of these jobs, given by the names of `NewJob`, all or nothing, and return it.

    If it is not `sealed`, more jobs can be added, and it does not end before it is sealed. Raises as
    `jobs.enqueue_many` does, and `Conflict` if a key of a job is taken: such a job could not be a member.
    """
    for number, one in enumerate(given):
        if one.get("batch_id") is not None:
            raise InvalidInput(f"[{number}]: batch_id is given; the batch is made here", field=f"[{number}].batch_id")
    told: list[ActionTaken] = []
    with conn.transaction():
        with worded():
            batch_id = run(steps.open_batch(new), Psycopg(conn).fetch)
        after = {"description": new.description, "callbacks": {name: job.type for name, job in new.callbacks.items()}}
        record_deed(conn, actor=actor.name, action="batch.create", target=batch_id, after_text=json.dumps(after))
        told.append(ActionTaken(actor=actor.name, action="batch.create", target=batch_id))
        if given:
            members = [{**one, "batch_id": batch_id} for one in given]
            made = jobs.enqueue_many(conn, members, actor=Actor(name=actor.name, tell=told.append), defaults=defaults)
            for number, member in enumerate(made):
                if not member.created:
                    raise Conflict(f"[{number}]: the idempotency key is taken by job {member.job.id}")
        if sealed:
            run(steps.seal_batch(batch_id), Psycopg(conn).fetch)
        batch = get_batch(conn, batch_id)
    for action in told:
        actor.tell(action)
    return batch


def seal(conn: Connection, batch_id: str, *, actor: Actor) -> Batch:
    """Let a batch end once its members have, and return it; a second call changes nothing. Raises `NotFound`."""
    target = checked_id(batch_id, "batch_id")
    with conn.transaction():
        was_sealed = get_batch(conn, target).sealed_at is not None
        if not was_sealed:
            run(steps.seal_batch(target), Psycopg(conn).fetch)
            record_deed(conn, actor=actor.name, action="batch.seal", target=target)
        batch = get_batch(conn, target)
    if not was_sealed:
        actor.tell(ActionTaken(actor=actor.name, action="batch.seal", target=target))
    return batch


def cancel(begin: Begin, batch_id: str, *, actor: Actor, running: bool = False) -> Batch:
    """Seal a batch and cancel its queued members, in steps, with `running` also those that run, and return it.

    It is done once no member runs, and has failed if one was canceled. A call that did not come to all of them can be
    repeated. Raises `NotFound`, or `Conflict` if it is done.
    """
    target = checked_id(batch_id, "batch_id")
    with begin() as conn:
        was_canceled = get_batch(conn, target).canceled_at is not None
        cancel_batch(conn, target)
        if not was_canceled:
            record_deed(conn, actor=actor.name, action="batch.cancel", target=target)
    if not was_canceled:
        actor.tell(ActionTaken(actor=actor.name, action="batch.cancel", target=target))
    actions = [bulk.BulkAction.CANCEL, *([bulk.BulkAction.CANCEL_RUNNING] if running else [])]
    for action in actions:
        bulk.change(begin, action, Filter(batch_id=target), actor=actor, most=MOST_STEPS)
    with begin() as conn:
        return get_batch(conn, target)
