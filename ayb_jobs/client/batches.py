"""The calls `batch` and `batch_async`: make a batch, add jobs to it, and seal it."""

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from ayb_jobs.client import async_drivers, sync_drivers
from ayb_jobs.client.drivers import async_driver, sync_driver
from ayb_jobs.client.enqueueing import enqueue, enqueue_async
from ayb_jobs.client.faults import worded
from ayb_jobs.client.steps import Enqueued, checked, numbered_jobs, open_batch, seal_batch
from ayb_jobs.errors import InvalidInput
from ayb_jobs.model.batches import NewBatch
from ayb_jobs.model.checked import checked_id
from ayb_jobs.model.new_job import NewJob, checked_batch
from ayb_jobs.tracing import current_traceparent


class Batch:
    """A batch that jobs are added to, on a connection. Raises as `enqueue` does.

    Jobs can be added until the batch is done: `Conflict` after that, `NotFound` if there is no such batch. A
    transaction that added a job keeps the batch from its end until it is committed.
    """

    def __init__(self, conn: Any, batch_id: str) -> None:
        self.id = checked_id(str(batch_id), "batch_id")
        self._conn = conn

    def __repr__(self) -> str:
        return f"<Batch {self.id}>"

    def enqueue(self, job: NewJob) -> Enqueued:
        """Put a job into the queue as a member. A job that has its idempotency key already is no member."""
        return enqueue(self._conn, as_member(job, self.id))

    def enqueue_many(self, jobs: Iterable[NewJob]) -> int:
        """Put many jobs into the queue as members, all or none, and return how many were made."""
        driver = sync_driver(self._conn)
        with worded():
            numbered = checked_members(numbered_jobs(jobs), self.id)
            return driver.enqueue_all(numbered, current_traceparent(), self.id)

    def seal(self) -> None:
        """Let the batch end once all its members have. A second call changes nothing."""
        with worded():
            sync_drivers.run(seal_batch(self.id), sync_driver(self._conn).fetch)


class AsyncBatch:
    """The same on an asynchronous connection."""

    def __init__(self, conn: Any, batch_id: str) -> None:
        self.id = checked_id(str(batch_id), "batch_id")
        self._conn = conn

    def __repr__(self) -> str:
        return f"<AsyncBatch {self.id}>"

    async def enqueue(self, job: NewJob) -> Enqueued:
        """Do what `Batch.enqueue` does."""
        return await enqueue_async(self._conn, as_member(job, self.id))

    async def enqueue_many(self, jobs: Iterable[NewJob]) -> int:
        """Do what `Batch.enqueue_many` does."""
        driver = async_driver(self._conn)
        with worded():
            await driver.server_version()
            numbered = checked_members(numbered_jobs(jobs), self.id)
            return await driver.enqueue_all(numbered, current_traceparent(), self.id)

    async def seal(self) -> None:
        """Do what `Batch.seal` does."""
        driver = async_driver(self._conn)
        with worded():
            await driver.server_version()
            await async_drivers.run(seal_batch(self.id), driver.fetch)


@contextmanager
def batch(
    conn: Any,
    *,
    on_success: NewJob | None = None,
    on_failure: NewJob | None = None,
    on_done: NewJob | None = None,
    description: str | None = None,
) -> Iterator[Batch]:
    """Make a batch on a connection that `enqueue` takes, and seal it at the end of the block.

    Once all its jobs have ended, `on_done` is enqueued, and `on_success` if all of them completed, else `on_failure`.
    The payload of a callback is yours, with a field `batch` that tells how the jobs ended.

    If the block raises, the batch is not sealed, so that nothing is called: undo the transaction, or, outside of one,
    cancel the batch or seal it later.
    """
    new = NewBatch(on_success=on_success, on_failure=on_failure, on_done=on_done, description=description)
    with worded():
        made = Batch(conn, sync_drivers.run(open_batch(new), sync_driver(conn).fetch))
    yield made
    made.seal()


@asynccontextmanager
async def batch_async(
    conn: Any,
    *,
    on_success: NewJob | None = None,
    on_failure: NewJob | None = None,
    on_done: NewJob | None = None,
    description: str | None = None,
) -> AsyncIterator[AsyncBatch]:
    """Do what `batch` does, on an asynchronous connection."""
    new = NewBatch(on_success=on_success, on_failure=on_failure, on_done=on_done, description=description)
    driver = async_driver(conn)
    with worded():
        await driver.server_version()
        made = AsyncBatch(conn, await async_drivers.run(open_batch(new), driver.fetch))
    yield made
    await made.seal()


def as_member(job: NewJob, batch_id: str) -> NewJob:
    """Return a job as a member of a batch; raises `InvalidInput` if it cannot be one."""
    if checked(job).batch_id not in (None, batch_id):
        raise InvalidInput(f"the job is a member of batch {job.batch_id}", field="batch_id")
    return job._replace(batch_id=checked_batch(batch_id, job.unique))


def checked_members(jobs: Iterable[tuple[str, NewJob]], batch_id: str) -> Iterator[tuple[str, NewJob]]:
    """Yield jobs that can be members of a batch; raises `InvalidInput` for another."""
    for id_, job in jobs:
        if job.unique is not None or job.batch_id not in (None, batch_id):
            as_member(job, batch_id)
        yield id_, job
