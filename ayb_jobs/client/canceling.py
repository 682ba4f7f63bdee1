"""The calls `request_cancel` and `request_cancel_async`: have a job end canceled, also while it runs."""

from typing import Any

from ayb_jobs.client.drivers import async_driver, sync_driver
from ayb_jobs.client.faults import worded
from ayb_jobs.client.steps import Row
from ayb_jobs.errors import Conflict, NotFound
from ayb_jobs.model.checked import checked_id
from ayb_jobs.model.job import JobState
from ayb_jobs.model.lifecycle import CANCELING_RUNNING, stays
from ayb_jobs.storage.queue.cancel_request import REQUEST_CANCEL


def request_cancel(conn: Any, job_id: str) -> JobState:
    """Have a job end canceled in the transaction of `conn`, which is what `enqueue` takes; return its state.

    A queued job is `canceled`. A running one is `running` until its handler has ended: that is told to stop once the
    transaction is committed, and whatever it does, the job ends canceled. A second call changes nothing.

    Raises `NotFound`, `InvalidInput` for an id that is none, and `Conflict` if the job has ended or a trigger keeps it.
    """
    asked = checked_id(str(job_id), "job_id")
    with worded("--daemon"):
        row = sync_driver(conn).fetch(REQUEST_CANCEL, {"id": asked})
    return _became(asked, row)


async def request_cancel_async(conn: Any, job_id: str) -> JobState:
    """Do what `request_cancel` does, on an asynchronous connection."""
    asked = checked_id(str(job_id), "job_id")
    with worded("--daemon"):
        row = await async_driver(conn).fetch(REQUEST_CANCEL, {"id": asked})
    return _became(asked, row)


def _became(job_id: str, row: Row | None) -> JobState:
    if row is None:
        raise NotFound(f"there is no job {job_id}")
    found, became, *_ = row
    if became is None and found in (JobState.QUEUED, JobState.RUNNING):
        raise Conflict(stays(job_id))
    if became is None:
        raise Conflict(f"job {job_id} is {found}; {CANCELING_RUNNING.rule}")
    return JobState(became)
