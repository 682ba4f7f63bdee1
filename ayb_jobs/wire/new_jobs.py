"""The body of the API's enqueue call."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from ayb_jobs.model.new_job import NewJob
from ayb_jobs.model.unique import Unique, unique_of

# The fields of the enqueue call that the model takes as they are, by the model's names.
ENQUEUE_FIELDS = {
    "type": "type",
    "payload": "payload",
    "queue": "queue",
    "priority": "priority",
    "maxAttempts": "max_attempts",
    "idempotencyKey": "idempotency_key",
    "dependsOn": "depends_on",
    "onParentFailure": "on_parent_failure",
    "limitKey": "limit_key",
    "batchId": "batch_id",
}
UNIQUE_FIELDS = {
    "uniqueKey": "unique_key",
    "uniqueBy": "unique_by",
    "uniqueScope": "unique_scope",
    "onConflict": "on_conflict",
}


def new_job(body: Mapping[str, Any]) -> NewJob:
    """Return the job that a body of the enqueue call asks for; raises `InvalidInput`."""
    return NewJob(**enqueue_fields(body))


def enqueue_fields(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a body of the enqueue call says, by the names of `NewJob`."""
    given = {field: body[key] for key, field in ENQUEUE_FIELDS.items() if key in body}
    if "runAt" in body:
        given["run_at"] = datetime.fromisoformat(body["runAt"])
    if "delaySec" in body:
        given["delay"] = timedelta(seconds=body["delaySec"])
    given["unique"] = unique_field(body)
    return given


def unique_field(body: Mapping[str, Any]) -> Unique | None:
    """Return what a body of the enqueue call says of uniqueness, None if nothing; raises `InvalidInput`."""
    said = {field: body.get(key) for key, field in UNIQUE_FIELDS.items()}
    if body.get("maxWaitSec") is not None:
        said["max_wait"] = timedelta(seconds=body["maxWaitSec"])
    return unique_of(said)
