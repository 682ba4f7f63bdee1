"""The calls `wait_for` and `wait_for_async`: how a job ends, and what its handler returned."""

import time
from typing import Any

from ayb_jobs.client.drivers import async_driver, sync_driver
from ayb_jobs.client.ends import FIND_END, IN_TRANSACTION, Asked, pauses
from ayb_jobs.client.faults import worded
from ayb_jobs.errors import InvalidInput, WaitTimedOut


def wait_for(conn: Any, job_id: str, timeout_s: float) -> Any:
    """Wait until a job has ended, at most so many seconds, and return what its handler returned.

    `conn` is what `enqueue` takes, outside any transaction, and is used by nobody else meanwhile. psycopg is notified
    if a result is kept. Otherwise the job is looked at again and again, at first after 20 ms and at last every second.
    A result that is no longer kept is None.

    Raises `JobFailed` or `JobCanceled`, with the error or the reason, if the job ended so; `WaitTimedOut`, a
    `TimeoutError`, if it has not ended in time; `NotFound` if there is no such job; and `InvalidInput` if the
    connection is in a transaction.
    """
    asked = Asked.of(job_id, timeout_s)
    driver = sync_driver(conn)
    if driver.in_transaction():
        raise InvalidInput(IN_TRANSACTION, field="conn")
    until = time.monotonic() + asked.timeout_s

    def look() -> Any:
        with worded("--read"):
            row = driver.fetch(FIND_END, {"id": asked.job_id})
            driver.leave()
        return row

    row = look()
    if ended := asked.ended(row):
        return ended.value
    with driver.hearing(asked.job_id, row[-1]) as wait:
        for pause_s in pauses():
            if ended := asked.ended(look()):
                return ended.value
            left_s = until - time.monotonic()
            if left_s <= 0:
                break
            wait(min(pause_s, left_s))
    raise WaitTimedOut(f"job {asked.job_id} has not ended within {asked.timeout_s:g} s")


async def wait_for_async(conn: Any, job_id: str, timeout_s: float) -> Any:
    """Do what `wait_for` does, on an asynchronous connection; psycopg and asyncpg are notified."""
    asked = Asked.of(job_id, timeout_s)
    driver = async_driver(conn)
    if driver.in_transaction():
        raise InvalidInput(IN_TRANSACTION, field="conn")
    until = time.monotonic() + asked.timeout_s

    async def look() -> Any:
        with worded("--read"):
            row = await driver.fetch(FIND_END, {"id": asked.job_id})
            await driver.leave()
        return row

    row = await look()
    if ended := asked.ended(row):
        return ended.value
    async with driver.hearing(asked.job_id, row[-1]) as wait:
        for pause_s in pauses():
            if ended := asked.ended(await look()):
                return ended.value
            left_s = until - time.monotonic()
            if left_s <= 0:
                break
            await wait(min(pause_s, left_s))
    raise WaitTimedOut(f"job {asked.job_id} has not ended within {asked.timeout_s:g} s")
