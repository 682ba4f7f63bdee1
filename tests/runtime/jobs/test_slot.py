"""A slot's own care, beyond what a daemon at work shows."""

import time

from ayb_jobs.handlers.context import ContextServices, JobContext
from ayb_jobs.handlers.job_type import JobType
from ayb_jobs.model.backoff import Backoff
from ayb_jobs.model.job import LeasedJob
from ayb_jobs.model.lifecycle import Settlement
from ayb_jobs.runtime.executors.threads import Threads
from ayb_jobs.runtime.jobs.attempts import Attempts, Endings
from ayb_jobs.runtime.jobs.buffer import Buffer
from ayb_jobs.runtime.jobs.in_flight import Held, InFlight
from ayb_jobs.runtime.jobs.payloads import Payloads
from ayb_jobs.runtime.jobs.slot import Slot
from ayb_jobs.storage.connections import Database
from tests.eventually import eventually
from tests.running import silent_logger

NEVER_REACHED = "postgresql://postgres@127.0.0.1:1/none"


def test_a_job_that_is_lost_while_it_begins_is_told_at_once() -> None:
    in_flight = InFlight()
    (held,) = in_flight.add([a_job()], time.monotonic())
    told: list[str | None] = []

    def run(ctx: JobContext) -> None:
        told.append(ctx.stop_reason)

    def find_while_the_lease_is_lost(_: str) -> JobType:
        in_flight.lose(held)
        return JobType(name="test", run=run)

    settled: list[Settlement] = []
    buffer = Buffer(on_low=lambda: None)
    buffer.put([held])
    slot = Slot(
        name="slot",
        buffer=buffer,
        find=find_while_the_lease_is_lost,
        executors={"thread": Threads()},
        attempts=Attempts(
            services=ContextServices(database=Database(NEVER_REACHED), lease_s=60, logger=silent_logger()),
            backoff=Backoff(),
            endings=Endings(settle=lambda _, settlement: settled.append(settlement), release=unexpected),
        ),
        payloads=Payloads(database=Database(NEVER_REACHED)),
    )
    slot.start()
    eventually(lambda: settled)
    buffer.close()
    assert slot.join(5)
    assert told == ["lease_lost"]


def unexpected(_: Held) -> None:
    raise AssertionError("nothing is given back here")


def a_job() -> LeasedJob:
    return LeasedJob._make(("job", "lease", 1, "test", "{}", "default", 2, 1, 3, 0, "", None, None, None, None, None))
