"""Jobs and attempts as the API shows them."""

from collections.abc import Mapping, Sequence
from typing import Any

from ayb_jobs.model.dependencies import Family, Relative
from ayb_jobs.model.execution import Execution, Output
from ayb_jobs.model.filters import Filter
from ayb_jobs.model.job import Job
from ayb_jobs.model.stats import JobStats
from ayb_jobs.wire.text import Stored, object_text

NOBODY = Family()
# The API's parameters whose names are not those of the filter's fields.
FILTER_FIELDS = {"key": "idempotencyKey", "batch_id": "batchId"}


def filter_fields(wanted: Filter) -> dict[str, str]:
    """Return what a filter says by the names of the API's parameters."""
    return {FILTER_FIELDS.get(name, name): value for name, value in wanted.said().items()}


def job_text(
    job: Job,
    *,
    wait_reason: str | None = None,
    family: Family = NOBODY,
    batch_progress: Mapping[str, Any] | None = None,
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
            "batchProgress": batch_progress,
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
            "waitReason": wait_reason,
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


def stats_text(stats: JobStats, *, unclaimable: Mapping[str, int], unclaimable_cut: bool) -> str:
    """Return the JSON of the counts.

    `estimated` names those that are estimates. `unclaimable` counts by type the due jobs that no live daemon can run;
    `unclaimableAtLeast` tells that not all due jobs were looked at, also if none was found. Each is left out otherwise.
    """
    return object_text(
        {
            **{state.value: count for state, count in stats.counts.items()},
            "oldestQueuedAgeSec": stats.oldest_queued_age_s,
            "oldestStartableAgeSec": stats.oldest_startable_age_s,
            "estimated": sorted(stats.estimated) or None,
            "unclaimable": dict(unclaimable) or None,
            "unclaimableAtLeast": unclaimable_cut or None,
        }
    )


def bulk_text(action: str, *, count: int, dry_run: bool, next_cursor: str | None = None) -> str:
    """Return the JSON of a change of many jobs; a dry run only counts. It is `done` unless there is a next call."""
    done = next_cursor is None
    return object_text({"action": action, "dryRun": dry_run, "count": count, "done": done, "nextCursor": next_cursor})


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
