"""The calls: `enqueue` and `enqueue_many`, and the same to be awaited."""

from collections.abc import Iterable
from typing import Any

from ayb_jobs.client import async_drivers, sync_drivers
from ayb_jobs.client.drivers import async_driver, sync_driver
from ayb_jobs.client.faults import worded
from ayb_jobs.client.steps import Enqueued, checked, enqueue_one, numbered_jobs
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.tracing import current_traceparent


def enqueue(conn: Any, job: NewJob) -> Enqueued:
    """Put a job into the queue, in the transaction that `conn` is in, and wake the daemons if it is due now.

    `conn` is a psycopg `Connection`, an SQLAlchemy `Session` or `Connection`, or Django's `connection`. The job exists
    once its transaction commits. If a job with the same idempotency key exists, in whatever state, it is the answer. If
    one has the job's unique key, `job.unique` says what happens.

    Raises `NotTaken`, a `TypeError`, for any other connection; `InvalidInput` for values that the database does not
    take; `Conflict` if the key is taken and that is to be told, if its job is hidden, or if a trigger drops the job;
    `MigrationError`, a `DatabaseError`, if the tables are not there; `DatabaseError` if the user lacks a right. Other
    errors are the driver's own.
    """
    driver = sync_driver(conn)
    with worded():
        return sync_drivers.run(enqueue_one(checked(job), driver.server_version()), driver.fetch)


async def enqueue_async(conn: Any, job: NewJob) -> Enqueued:
    """Do what `enqueue` does, on an asynchronous connection.

    `conn` is a psycopg `AsyncConnection`, an asyncpg `Connection`, or an SQLAlchemy `AsyncSession` or
    `AsyncConnection`.
    """
    driver = async_driver(conn)
    with worded():
        return await async_drivers.run(enqueue_one(checked(job), await driver.server_version()), driver.fetch)


def enqueue_many(conn: Any, jobs: Iterable[NewJob]) -> int:
    """Put many jobs into the queue, all or none, and return how many were made.

    Jobs that fall due at the same time are leased in the order in which they were given. Those whose key is taken are
    left out, unless their `unique` says otherwise. It happens in the transaction that `conn` is in, else in one of its
    own, with one notification.

    On psycopg and Django jobs are sent, by COPY, while `jobs` is still being read, so reading it must not use `conn`.
    On SQLAlchemy they are few statements: some ten thousand jobs a call. Raises as `enqueue` does: then none of
    the jobs is made, even if the transaction is then committed.
    """
    driver = sync_driver(conn)
    with worded():
        return driver.enqueue_all(numbered_jobs(jobs), current_traceparent())


async def enqueue_many_async(conn: Any, jobs: Iterable[NewJob]) -> int:
    """Do what `enqueue_many` does, on an asynchronous connection; by COPY on psycopg and asyncpg."""
    driver = async_driver(conn)
    with worded():
        await driver.server_version()
        return await driver.enqueue_all(numbered_jobs(jobs), current_traceparent())
