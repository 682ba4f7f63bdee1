"""Batches as the API shows them and takes them."""

from collections.abc import Mapping
from typing import Any

from ayb_jobs.model.batches import EVENTS, Batch, NewBatch
from ayb_jobs.wire.new_jobs import new_job
from ayb_jobs.wire.text import object_text

# The callbacks, by the model's names.
CALLBACKS = {f"on{event.capitalize()}": f"on_{event}" for event in EVENTS}


def progress_fields(batch: Batch) -> dict[str, Any]:
    """Return how many members of a batch are in each state, and how many of a hundred have ended.

    If not all members were counted, `percent` is left out.
    """
    fields = {
        "queued": batch.queued,
        "running": batch.running,
        "completed": batch.completed,
        "failed": batch.failed,
        "canceled": batch.canceled,
        "total": batch.total,
        "percent": batch.percent,
        "atLeast": batch.cut,
    }
    return {name: value for name, value in fields.items() if value is not None}


def batch_text(batch: Batch) -> str:
    """Return a batch's JSON; `waitsFor` is left out once it is done."""
    first = (
        None if batch.first_failed_id is None else {"jobId": batch.first_failed_id, "error": batch.first_error or ""}
    )
    return object_text(
        {
            "id": batch.id,
            "description": batch.description,
            "state": batch.state,
            "progress": progress_fields(batch),
            "waitsFor": batch.waits_for,
            "firstFailure": first,
            "callbacks": [
                {"event": each.event, "jobId": each.job_id, "type": each.type}
                | ({} if each.state is None else {"state": each.state})
                for each in batch.callbacks
            ],
            "createdAt": batch.created_at,
            "sealedAt": batch.sealed_at,
            "canceledAt": batch.canceled_at,
            "doneAt": batch.done_at,
        }
    )


def new_batch(body: Mapping[str, Any]) -> NewBatch:
    """Return the batch that a body asks for; raises `InvalidInput`."""
    callbacks = {field: new_job(body[key]) for key, field in CALLBACKS.items() if body.get(key) is not None}
    return NewBatch(description=body.get("description"), **callbacks)
