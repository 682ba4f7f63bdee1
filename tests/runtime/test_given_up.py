"""Jobs that a daemon gives up since it may lose their leases, and that are its own all the same."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from ayb_jobs.client.enqueueing import enqueue
from ayb_jobs.events import LeasesLost
from ayb_jobs.handlers.async_context import AsyncJobContext
from ayb_jobs.handlers.context import JobContext
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.storage.database import Connection
from tests.eventually import eventually
from tests.running import Running, running
from tests.runtime.executors import isolated_jobs

ENDED = "SELECT state, attempts, crashes FROM _ayb_jobs WHERE id = %s"
OUTCOMES = "SELECT outcome FROM _ayb_job_executions WHERE job_id = %s"


def give_up(daemon: Running) -> None:
    """Do what the watchdog does if no lease could be extended for two thirds of it."""
    in_flight = daemon.daemon._parts.in_flight
    for held in in_flight.all():
        in_flight.lose(held)


def patient_at_first(begun: list[int]) -> Callable[[JobContext], None]:
    def run(ctx: JobContext) -> None:
        begun.append(ctx.attempt)
        if len(begun) == 1:
            ctx.stopping.wait(30)
            ctx.check()

    return run


def patient_on_the_loop_at_first(begun: list[int]) -> Callable[[AsyncJobContext], Any]:
    async def run(ctx: AsyncJobContext) -> None:
        begun.append(ctx.attempt)
        if len(begun) == 1:
            await asyncio.sleep(30)

    return run


@pytest.mark.parametrize("handler", [patient_at_first, patient_on_the_loop_at_first])
def test_what_is_given_up_and_not_lost_goes_back_with_its_attempt(
    database_url: str, conn: Connection, handler: Callable[[list[int]], Callable[[Any], Any]]
) -> None:
    begun: list[int] = []
    registry = Registry()
    registry.handler("patient")(handler(begun))
    job_id = enqueue(conn, NewJob(type="patient", max_attempts=1)).id
    with running(database_url, registry) as daemon:
        eventually(lambda: begun)
        give_up(daemon)
        eventually(lambda: conn.execute(ENDED, (job_id,)).fetchone() == ("completed", 1, 0))
        assert daemon.recorder.of(LeasesLost) == []
    assert begun == [1, 1]
    assert conn.execute(OUTCOMES, (job_id,)).fetchall() == [("completed",)]


def test_what_is_given_up_in_a_child_goes_back_with_its_attempt(database_url: str, conn: Connection) -> None:
    conn.execute("CREATE TABLE places (job_id text, pid int)")
    with running(database_url, isolated_jobs.registry, process_concurrency=1) as daemon:
        job_id = enqueue(conn, NewJob(type="wait", max_attempts=1)).id
        eventually(lambda: conn.execute("SELECT 1 FROM places").fetchone(), within_s=30)
        give_up(daemon)
        eventually(lambda: conn.execute("SELECT count(*) FROM places").fetchone() == (2,), within_s=30)
    assert conn.execute(ENDED, (job_id,)).fetchone() == ("queued", 0, 0)
    assert conn.execute(OUTCOMES, (job_id,)).fetchall() == []
