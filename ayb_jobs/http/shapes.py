"""What the API answers: the JSON of jobs, schedules, attempts, daemons and deeds.

Stored JSON is spliced in as the text it is: PostgreSQL stores numbers and nesting that Python cannot decode, and an
answer must show them all the same. The models are what the OpenAPI document says about that JSON.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from fastapi import Response
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from ayb_jobs.model.execution import Execution
from ayb_jobs.model.job import Job, JobState
from ayb_jobs.model.lifecycle import Outcome
from ayb_jobs.model.schedule import Schedule
from ayb_jobs.model.stats import JobStats
from ayb_jobs.storage.audit import Deed
from ayb_jobs.storage.workers import SeenWorker


class Shape(BaseModel):
    """An answer, in camelCase; keys that are null are left out."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class JobShape(Shape):
    """A job."""

    id: str
    type: str
    payload: Any
    state: JobState
    queue: str
    priority: int
    run_at: datetime
    lease_until: datetime | None = None
    worker_id: str | None = None
    attempts: int
    max_attempts: int
    crashes: int
    last_error: str | None = None
    last_run_at: datetime | None = None
    idempotency_key: str | None = None
    schedule_id: str | None = None
    scheduled_for: datetime | None = None
    progress: Any = None
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None = None
    canceled_at: datetime | None = None


class JobPage(Shape):
    """Jobs, the newest first; `count` is their number in this page, `nextCursor` continues after the last."""

    items: list[JobShape]
    count: int
    next_cursor: str | None = None


class StatsShape(Shape):
    """Jobs by state; how long the oldest due one has waited, in seconds; and which of the counts are estimates."""

    queued: int
    running: int
    completed: int
    failed: int
    canceled: int
    oldest_queued_age_sec: float | None = None
    estimated: list[JobState] | None = None


class ExecutionShape(Shape):
    """One attempt of a job; a running one has neither outcome nor end."""

    id: int
    job_id: str
    job_type: str
    schedule_id: str | None = None
    attempt: int
    worker_id: str | None = None
    outcome: Outcome | None = None
    error: str | None = None
    records_processed: int | None = None
    started_at: datetime
    ended_at: datetime | None = None


class ExecutionPage(Shape):
    """Attempts, the newest first; `nextBefore` continues after the last."""

    items: list[ExecutionShape]
    count: int
    next_before: int | None = None


class ScheduleShape(Shape):
    """A schedule."""

    id: str
    name: str
    job_type: str
    payload: Any
    cron_expr: str
    timezone: str
    enabled: bool
    max_attempts: int
    queue: str
    priority: int
    catchup: str
    catchup_max: int
    catchup_window_sec: float
    overlap: str
    dst: str
    jitter_sec: float
    timeout_sec: float | None = None
    expect_success_within_sec: float | None = None
    ping_url_set: bool
    origin: str
    next_run_at: datetime | None = None
    last_run_at: datetime | None = None
    last_fire_at: datetime | None = None
    last_error: str | None = None
    created_at: datetime
    updated_at: datetime


class SchedulePage(Shape):
    """The schedules, by name."""

    items: list[ScheduleShape]
    count: int


class WorkerShape(Shape):
    """A daemon: what it can run, since when, and what it runs now."""

    id: str
    host: str
    pid: int
    version: str
    concurrency: int
    queues: list[str]
    types: list[str]
    started_at: datetime
    heartbeat_at: datetime
    silent_sec: float
    running: list[str]


class WorkerPage(Shape):
    """The daemons that are alive."""

    items: list[WorkerShape]
    count: int


class DeedShape(Shape):
    """A change by hand."""

    id: int
    at: datetime
    actor: str
    action: str
    target: str | None = None
    before: Any = None
    after: Any = None


class DeedPage(Shape):
    """Changes by hand, the newest first; `nextBefore` continues after the last."""

    items: list[DeedShape]
    count: int
    next_before: int | None = None


def answer(text: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return JSON text as a response."""
    return Response(text.encode(), status, headers, media_type="application/json")


def page_text(items: Iterable[str], **further: str | int | None) -> str:
    """Return the JSON of a page of items that are JSON already."""
    texts = list(items)
    rest = object_text({"count": len(texts), **further})
    return f'{{"items":[{",".join(texts)}],{rest[1:]}'


def object_text(fields: Mapping[str, Any], **stored: str | None) -> str:
    """Return a JSON object of the fields that are not None; `stored` are fields whose values are JSON already."""
    parts = [
        f"{json.dumps(key)}:{json.dumps(value, default=_plain)}" for key, value in fields.items() if value is not None
    ]
    parts += [f"{json.dumps(key)}:{text}" for key, text in stored.items() if text is not None]
    return f"{{{','.join(parts)}}}"


def job_text(job: Job) -> str:
    """Return a job's JSON."""
    fields = {
        "id": job.id,
        "type": job.type,
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
    }
    return object_text(fields, payload=job.payload_text)


def stats_text(stats: JobStats) -> str:
    """Return the JSON of the counts."""
    fields = {state.value: count for state, count in stats.counts.items()}
    estimated = sorted(stats.estimated) or None
    return object_text({**fields, "oldestQueuedAgeSec": stats.oldest_queued_age_s, "estimated": estimated})


def execution_text(execution: Execution) -> str:
    """Return an attempt's JSON."""
    fields = {
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
    return object_text(fields)


def schedule_text(schedule: Schedule) -> str:
    """Return a schedule's JSON. Its ping address is a secret, of which only the presence is told."""
    fields = {
        "id": schedule.id,
        "name": schedule.name,
        "jobType": schedule.job_type,
        "cronExpr": schedule.cron,
        "timezone": schedule.timezone,
        "enabled": schedule.enabled,
        "maxAttempts": schedule.max_attempts,
        "queue": schedule.queue,
        "priority": schedule.priority,
        "catchup": schedule.catchup,
        "catchupMax": schedule.catchup_max,
        "catchupWindowSec": schedule.catchup_window_s,
        "overlap": schedule.overlap,
        "dst": schedule.dst,
        "jitterSec": schedule.jitter_s,
        "timeoutSec": schedule.timeout_s,
        "expectSuccessWithinSec": schedule.expect_success_within_s,
        "pingUrlSet": schedule.ping_url is not None,
        "origin": schedule.origin,
        "nextRunAt": schedule.next_run_at,
        "lastRunAt": schedule.last_run_at,
        "lastFireAt": schedule.last_fire_at,
        "lastError": schedule.last_error,
        "createdAt": schedule.created_at,
        "updatedAt": schedule.updated_at,
    }
    return object_text(fields, payload=schedule.payload_text)


def worker_text(seen: SeenWorker) -> str:
    """Return a daemon's JSON."""
    worker = seen.worker
    fields = {
        "id": worker.id,
        "host": worker.host,
        "pid": worker.pid,
        "version": worker.version,
        "concurrency": worker.concurrency,
        "queues": worker.queues,
        "types": worker.types,
        "startedAt": seen.started_at,
        "heartbeatAt": seen.heartbeat_at,
        "silentSec": seen.silent_s,
        "running": seen.running,
    }
    return object_text(fields)


def deed_text(deed: Deed) -> str:
    """Return the JSON of a change by hand."""
    fields = {"id": deed.id, "at": deed.at, "actor": deed.actor, "action": deed.action, "target": deed.target}
    return object_text(fields, before=deed.before_text, after=deed.after_text)


def _plain(value: object) -> str:
    """Return an instant as RFC 3339 in UTC."""
    if isinstance(value, datetime):
        return instant_text(value)
    raise TypeError(f"{type(value).__name__} has no JSON")


def instant_text(instant: datetime) -> str:
    """Return an instant as RFC 3339 in UTC."""
    return instant.isoformat().replace("+00:00", "Z")
