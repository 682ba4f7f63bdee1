"""What the OpenAPI document says about the JSON that the API answers with; `wire` builds it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from fastapi import Response
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from ayb_jobs.model.batches import BatchState
from ayb_jobs.model.job import JobState
from ayb_jobs.model.lifecycle import Outcome
from ayb_jobs.model.waiting import WaitKind


class Shape(BaseModel):
    """An answer, in camelCase; keys that are null are left out."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class RelativeShape(Shape):
    """A parent or a child of a job; `state` is `gone` for one that is no longer kept."""

    id: str
    state: str
    on_parent_failure: str
    waited_for: bool


class StepShape(Shape):
    """A step that a job has done, and what it returned."""

    name: str
    result: Any
    done_at: datetime


class ProgressShape(Shape):
    """How many members of a batch are in each state; `percent` of them have ended.

    `atLeast` tells that not all were counted: there are so many at least, and `percent` is left out.
    """

    queued: int
    running: int
    completed: int
    failed: int
    canceled: int
    total: int
    percent: int | None = None
    at_least: bool


class JobShape(Shape):
    """A job. `blockedRunAt` is there while it waits for a parent: when it is due after that.

    If one job is shown, `result` is what its handler returned, `steps` are those that it has done, and `waitReason` is
    what keeps it waiting. While it holds a unique key, `uniqueScope` tells until when: `unfinished`, or `waiting`.
    `dependsOn` and `dependents` hold up to 100 of its parents and children then, and `batchProgress` tells how far its
    batch is.
    """

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
    unique_scope: str | None = None
    limit: str | None = None
    limit_key: str | None = None
    batch_id: str | None = None
    batch_progress: ProgressShape | None = None
    schedule_id: str | None = None
    scheduled_for: datetime | None = None
    progress: Any = None
    result: Any = None
    steps: list[StepShape] | None = None
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None = None
    canceled_at: datetime | None = None
    cancel_requested_at: datetime | None = None
    cancel_heard_at: datetime | None = None
    wait_reason: str | None = None
    blocked_run_at: datetime | None = None
    depends_on: list[RelativeShape] | None = None
    depends_on_count: int | None = None
    dependents: list[RelativeShape] | None = None
    dependents_count: int | None = None


class JobPage(Shape):
    """Jobs, the newest first; `count` is their number in this page, `nextCursor` continues after the last."""

    items: list[JobShape]
    count: int
    next_cursor: str | None = None


class EnqueuedShape(Shape):
    """The jobs of an array, in its order: those that were made, `created` of them, and those that have their keys."""

    items: list[JobShape]
    count: int
    created: int


class StatsShape(Shape):
    """Jobs by state; how long the oldest due one has waited, in seconds; which of the counts are estimates.

    `oldestStartableAgeSec` is of those that wait for nothing but a slot: no limit, no pause, and a daemon knows them.
    `unclaimable` counts, by type, the due jobs that no live daemon can run. Of more than 10,000 due jobs not all are
    looked at, but some at either end of each lane of queue and priority; `unclaimableAtLeast` tells that it was so.
    """

    queued: int
    running: int
    completed: int
    failed: int
    canceled: int
    oldest_queued_age_sec: float | None = None
    oldest_startable_age_sec: float | None = None
    estimated: list[JobState] | None = None
    unclaimable: dict[str, int] | None = None
    unclaimable_at_least: bool | None = None


class PauseShape(Shape):
    """Since when something is paused, by whom, why, and until when."""

    since: datetime
    by: str
    reason: str | None = None
    until: datetime | None = None


class PausableShape(Shape):
    """A queue, a job type or a key; `waitingFor` names the live daemons that have not confirmed its pause yet.

    `atLeast` tells that not all due jobs were looked at: at least so many are due.
    """

    name: str
    due: int
    running: int
    at_least: bool
    daemons: int
    paused: PauseShape | None = None
    waiting_for: list[str] | None = None


class PausablePage(Shape):
    """Queues, job types or keys, by name; `atLeast` tells that there are more."""

    items: list[PausableShape]
    count: int
    at_least: bool


class WaitShape(Shape):
    """Why a job waits, or many of one type in one queue, of which `jobId` is the first. `kind` is a word for programs.

    `remedy` is a command, or what else helps. What is about no job has neither id, type nor queue. `atLeast` tells that
    not all that wait were looked at: at least so many `jobs` wait.
    """

    kind: WaitKind
    reason: str
    remedy: str | None = None
    jobs: int
    at_least: bool
    job_id: str | None = None
    type: str | None = None
    queue: str | None = None


class WaitPage(Shape):
    """Waits: first what lost its daemon, then what is due, then the rest; `atLeast` tells that there are more."""

    items: list[WaitShape]
    count: int
    at_least: bool


class LimitShape(Shape):
    """A limit; `waitingFor` names the live daemons that have not confirmed it, `tokens` what its rate allows now.

    `atLeast` tells that not all were counted: at least so many wait.
    """

    name: str
    types: list[str]
    key_field: str | None = None
    max_running: int | None = None
    key_max_running: int | None = None
    rate: str | None = None
    burst: int | None = None
    key_rate: str | None = None
    key_burst: int | None = None
    waiting: int
    running: int
    at_least: bool
    tokens: int | None = None
    set_by: str
    set_at: datetime
    waiting_for: list[str]


class LimitPage(Shape):
    """Limits, by name."""

    items: list[LimitShape]
    count: int


class FailureShape(Shape):
    """The job that failed first, of those that have failed, and its error."""

    job_id: str
    error: str


class CallbackShape(Shape):
    """What is enqueued at an event, as job `jobId`; `state` is that job's, left out if there is none."""

    event: Literal["success", "failure", "done"]
    job_id: str
    type: str
    state: JobState | None = None


class BatchShape(Shape):
    """A batch. Once it is done, `progress` says how its jobs had ended then. `waitsFor` says what it waits for."""

    id: str
    description: str | None = None
    state: BatchState
    progress: ProgressShape
    waits_for: str | None = None
    first_failure: FailureShape | None = None
    callbacks: list[CallbackShape]
    created_at: datetime
    sealed_at: datetime | None = None
    canceled_at: datetime | None = None
    done_at: datetime | None = None


class BatchPage(Shape):
    """Batches, the newest first; `nextBefore` continues after the last."""

    items: list[BatchShape]
    count: int
    next_before: str | None = None


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


class OutputShape(Shape):
    """The end of what the command of an attempt wrote."""

    attempt: int
    output: str


class WorkerShape(Shape):
    """A daemon: what it can run, since when, and what it runs now; `atLeast` tells that it runs more than is named."""

    id: str
    host: str
    pid: int
    version: str
    concurrency: int
    queues: list[str]
    types: list[str]
    started_at: datetime
    heartbeat_at: datetime
    drain_requested_at: datetime | None = None
    silent_sec: float
    running: list[str]
    at_least: bool
    stuck_loops: list[str] | None = None
    stuck_slots: int | None = None


class WorkerPage(Shape):
    """The daemons that are alive; `now` is the database's clock."""

    items: list[WorkerShape]
    count: int
    now: datetime


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
