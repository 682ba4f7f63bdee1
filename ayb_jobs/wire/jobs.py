"""Jobs and attempts as JSON text, in AYB's camelCase; keys that would be null are left out.

Stored JSON is spliced in as the text it is: PostgreSQL stores numbers and nesting that Python cannot decode, and an
answer must show them all the same.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from ayb_jobs.model.execution import Execution
from ayb_jobs.model.job import Job
from ayb_jobs.model.stats import JobStats


class Stored(str):
    """A text that is JSON already."""

    __slots__ = ()


def object_text(fields: Mapping[str, Any]) -> str:
    """Return the JSON of an object; fields that are None are left out."""
    parts = [f"{json.dumps(key)}:{value_text(value)}" for key, value in fields.items() if value is not None]
    return f"{{{','.join(parts)}}}"


def value_text(value: Any) -> str:
    """Return the JSON of a value; an instant is RFC 3339 in UTC."""
    if isinstance(value, Stored):
        return value
    return json.dumps(instant_text(value) if isinstance(value, datetime) else value)


def instant_text(value: datetime) -> str:
    """Return an instant in UTC as RFC 3339."""
    return value.isoformat().replace("+00:00", "Z")


def page_text(items: Iterable[str], **further: str | int | None) -> str:
    """Return the JSON of a page of items that are JSON already."""
    texts = list(items)
    return object_text({"items": Stored(f"[{','.join(texts)}]"), "count": len(texts), **further})


def job_text(job: Job, *, wait_reason: str | None = None) -> str:
    """Return a job's JSON, with why it waits where that is known."""
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
            "scheduleId": job.schedule_id,
            "scheduledFor": job.scheduled_for,
            "progress": job.progress,
            "createdAt": job.created_at,
            "updatedAt": job.updated_at,
            "completedAt": job.completed_at,
            "canceledAt": job.canceled_at,
            "waitReason": wait_reason,
        }
    )


def stats_text(stats: JobStats, *, unclaimable: Mapping[str, int]) -> str:
    """Return the JSON of the counts.

    `estimated` names those that are estimates, and `unclaimable` counts by type the due jobs that no live daemon can run,
    each where there are any.
    """
    return object_text(
        {
            **{state.value: count for state, count in stats.counts.items()},
            "oldestQueuedAgeSec": stats.oldest_queued_age_s,
            "estimated": sorted(stats.estimated) or None,
            "unclaimable": dict(unclaimable) or None,
        }
    )


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
