"""A job daemon with its queue in PostgreSQL.

What an application needs: on one side `enqueue` and `enqueue_many` with `NewJob`, and `wait_for` what a job's handler
returned (`enqueue_async`, `enqueue_many_async` and `wait_for_async` on asynchronous connections). On the other a
`Registry` of handlers, which get a `JobContext` (`async def` handlers an `AsyncJobContext`) and may answer with
`Snooze` or `Cancel` or raise `Discard`.
"""

import importlib
from typing import TYPE_CHECKING, Any

# Each name is imported when it is first asked for: the command line starts without what it does not use.
if TYPE_CHECKING:
    from ayb_jobs.client.batches import AsyncBatch, Batch, batch, batch_async
    from ayb_jobs.client.canceling import request_cancel, request_cancel_async
    from ayb_jobs.client.enqueueing import enqueue, enqueue_async, enqueue_many, enqueue_many_async
    from ayb_jobs.client.steps import Enqueued
    from ayb_jobs.client.waiting import wait_for, wait_for_async
    from ayb_jobs.errors import (
        AybJobsError,
        Conflict,
        Discard,
        InvalidInput,
        JobCanceled,
        JobFailed,
        LeaseLost,
        NotFound,
        NotTaken,
        Stopped,
        TransactionLost,
        WaitTimedOut,
    )
    from ayb_jobs.handlers.async_context import AsyncJobContext
    from ayb_jobs.handlers.context import JobContext
    from ayb_jobs.handlers.registry import Registry
    from ayb_jobs.model.job import Job, JobState
    from ayb_jobs.model.new_job import NewJob
    from ayb_jobs.model.results import Cancel, Snooze
    from ayb_jobs.model.unique import Unique
    from ayb_jobs.storage.queue.jobs import cancel_job, get_job, retry_job

__version__ = "0.1.0"

_HOMES = {
    "ayb_jobs.client.batches": ("AsyncBatch", "Batch", "batch", "batch_async"),
    "ayb_jobs.client.canceling": ("request_cancel", "request_cancel_async"),
    "ayb_jobs.client.enqueueing": ("enqueue", "enqueue_async", "enqueue_many", "enqueue_many_async"),
    "ayb_jobs.client.steps": ("Enqueued",),
    "ayb_jobs.client.waiting": ("wait_for", "wait_for_async"),
    "ayb_jobs.errors": (
        "AybJobsError",
        "Conflict",
        "Discard",
        "InvalidInput",
        "JobCanceled",
        "JobFailed",
        "LeaseLost",
        "NotFound",
        "NotTaken",
        "Stopped",
        "TransactionLost",
        "WaitTimedOut",
    ),
    "ayb_jobs.handlers.async_context": ("AsyncJobContext",),
    "ayb_jobs.handlers.context": ("JobContext",),
    "ayb_jobs.handlers.registry": ("Registry",),
    "ayb_jobs.model.job": ("Job", "JobState"),
    "ayb_jobs.model.new_job": ("NewJob",),
    "ayb_jobs.model.results": ("Cancel", "Snooze"),
    "ayb_jobs.model.unique": ("Unique",),
    "ayb_jobs.storage.queue.jobs": ("cancel_job", "get_job", "retry_job"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AsyncBatch",
    "AsyncJobContext",
    "AybJobsError",
    "Batch",
    "Cancel",
    "Conflict",
    "Discard",
    "Enqueued",
    "InvalidInput",
    "Job",
    "JobCanceled",
    "JobContext",
    "JobFailed",
    "JobState",
    "LeaseLost",
    "NewJob",
    "NotFound",
    "NotTaken",
    "Registry",
    "Snooze",
    "Stopped",
    "TransactionLost",
    "Unique",
    "WaitTimedOut",
    "batch",
    "batch_async",
    "cancel_job",
    "enqueue",
    "enqueue_async",
    "enqueue_many",
    "enqueue_many_async",
    "get_job",
    "request_cancel",
    "request_cancel_async",
    "retry_job",
    "wait_for",
    "wait_for_async",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its home."""
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)
