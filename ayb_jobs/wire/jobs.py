"""Jobs and attempts as the API shows them, and the body of its enqueue call."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from ayb_jobs.model.batches import Batch
from ayb_jobs.model.dependencies import Family, Relative
from ayb_jobs.model.execution import Execution, Output
from ayb_jobs.model.filters import Filter
from ayb_jobs.model.job import Job
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.model.stats import JobStats
from ayb_jobs.model.unique import Unique, unique_of
from ayb_jobs.model.waiting import Reason
from ayb_jobs.wire.text import Stored, object_text

NOBODY = Family()
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
# The API's parameters whose names are not those of the filter's fields.
FILTER_FIELDS = {"key": "idempotencyKey", "batch_id": "batchId"}
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


def filter_fields(wanted: Filter) -> dict[str, str]:
    """Return what a filter says by the names of the API's parameters."""
    return {FILTER_FIELDS.get(name, name): value for name, value in wanted.said().items()}


def progress_fields(batch: Batch) -> dict[str, int]:
    """Return how many members of a batch are in each state, and how many of a hundred have ended."""
    return {
        "queued": batch.queued,
        "running": batch.running,
        "completed": batch.completed,
        "failed": batch.failed,
        "canceled": batch.canceled,
        "total": batch.total,
        "percent": batch.percent,
    }


def job_text(
    job: Job, *, wait_reason: Reason | None = None, family: Family = NOBODY, batch: Batch | None = None
) -> str:
    """Return a job's JSON, with why it waits, its parents and children, and how far its batch is, if that is known."""
    return object_text(
        {
            "id": job.id,
            "type": job.type,
            "payload": Stored(job.payload_text),
            "state": job.state,
            "queue": job.queue,
            "priority": job.priority,
            "runAt": job.run_at,
            "leaseUntil": job.lease_until,
            "workerId": job.worker_id,
            "attempts": job.attempts,
            "maxAttempts": job.max_attempts,
            "crashes": job.crashes,
            "lastError": job.last_error,
            "lastRunAt": job.last_run_at,
            "idempotencyKey": job.idempotency_key,
            "uniqueScope": job.unique_scope,
            "limit": job.limit,
            "limitKey": job.limit_key,
            "batchId": job.batch_id,
            "batchProgress": None if batch is None else progress_fields(batch),
            "scheduleId": job.schedule_id,
            "scheduledFor": job.scheduled_for,
            "progress": job.progress,
            "result": None if job.result_text is None else Stored(job.result_text),
            "steps": None if job.steps_text is None else Stored(job.steps_text),
            "createdAt": job.created_at,
            "updatedAt": job.updated_at,
            "completedAt": job.completed_at,
            "canceledAt": job.canceled_at,
            "cancelRequestedAt": job.cancel_requested_at,
            "cancelHeardAt": job.cancel_heard_at,
            "waitReason": None if wait_reason is None else wait_reason.words,
            "blockedRunAt": job.blocked_run_at,
            "dependsOn": _relatives(family.parents),
            "dependsOnCount": family.parent_count or None,
            "dependents": _relatives(family.children),
            "dependentsCount": family.child_count or None,
        }
    )


def _relatives(relatives: Sequence[Relative]) -> list[dict[str, Any]] | None:
    told = [
        {"id": one.id, "state": one.state or "gone", "onParentFailure": one.rule, "waitedFor": one.is_open}
        for one in relatives
    ]
    return told or None


def stats_text(stats: JobStats, *, unclaimable: Mapping[str, int]) -> str:
    """Return the JSON of the counts.

    `estimated` names those that are estimates. `unclaimable` counts by type the due jobs that no live daemon can run.
    Both are left out if there are none.
    """
    return object_text(
        {
            **{state.value: count for state, count in stats.counts.items()},
            "oldestQueuedAgeSec": stats.oldest_queued_age_s,
            "estimated": sorted(stats.estimated) or None,
            "unclaimable": dict(unclaimable) or None,
        }
    )


def bulk_text(action: str, *, count: int, done: bool, dry_run: bool) -> str:
    """Return the JSON of a change of many jobs; a dry run only counts. If it is not `done`, call again for the rest."""
    return object_text({"action": action, "dryRun": dry_run, "count": count, "done": done})


def output_text(output: Output) -> str:
    """Return the JSON of what an attempt's command wrote."""
    return object_text({"attempt": output.attempt, "output": output.output})


def execution_text(execution: Execution) -> str:
    """Return an attempt's JSON."""
    return object_text(
        {
            "id": execution.id,
            "jobId": execution.job_id,
            "jobType": execution.job_type,
            "scheduleId": execution.schedule_id,
            "attempt": execution.attempt,
            "workerId": execution.worker_id,
            "outcome": execution.outcome,
            "error": execution.error,
            "recordsProcessed": execution.records_processed,
            "startedAt": execution.started_at,
            "endedAt": execution.ended_at,
        }
    )
