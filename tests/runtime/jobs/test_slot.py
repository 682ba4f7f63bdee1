"""A slot's own care, beyond what a daemon at work shows."""

import time
from collections.abc import Callable

import pytest

from ayb_jobs.handlers.context import JobContext
from ayb_jobs.handlers.job_type import JobType
from ayb_jobs.handlers.services import ContextServices
from ayb_jobs.model.backoff import Backoff
from ayb_jobs.model.job import JobState, LeasedJob
from ayb_jobs.model.lifecycle import Settlement
from ayb_jobs.runtime.executors.threads import Threads
from ayb_jobs.runtime.jobs.attempts import Attempts, Endings
from ayb_jobs.runtime.jobs.buffer import Buffer
from ayb_jobs.runtime.jobs.in_flight import Held, InFlight
from ayb_jobs.runtime.jobs.payloads import Payloads
from ayb_jobs.runtime.jobs.slot import Slot
from ayb_jobs.storage.connections import Database
from tests.eventually import eventually
from tests.factories import leased_job
from tests.running import silent_logger

NEVER_REACHED = "postgresql://postgres@127.0.0.1:1/none"


class Scene:
    """A slot with one job, whose handler is made as the slot looks for it, and what is settled and given back."""

    def __init__(self, find: Callable[["Scene"], JobType]) -> None:
        self.in_flight = InFlight()
        (self.held,) = self.in_flight.add([a_job()], time.monotonic())
        self.settled: list[Settlement] = []
        self.released: list[Held] = []
        self.late: list[Held] = []
        self.on_settled: Callable[[], None] = lambda: None
        self.buffer = Buffer(on_low=lambda: None)
        self.buffer.put([self.held])
        self.slot = Slot(
            name="slot",
            buffer=self.buffer,
            find=lambda _: find(self),
            executors={"thread": Threads().run},
            attempts=Attempts(
                services=ContextServices(database=Database(NEVER_REACHED), lease_s=60, logger=silent_logger()),
                backoff=Backoff(),
                endings=Endings(
                    settle=self.settle,
                    release=self.released.append,
                    late=self.late.append,
                ),
            ),
            payloads=Payloads(database=Database(NEVER_REACHED)),
        )

    def settle(self, _: Held, settlement: Settlement) -> None:
        """Keep how the job ended."""
        self.on_settled()
        self.settled.append(settlement)

    def run(self) -> None:
        """Run the slot until its job is settled or given back, or its handler has ended late."""
        self.slot.start()
        eventually(lambda: self.settled or self.released or self.late)
        self.buffer.close()
        assert self.slot.join(5)


def test_a_job_that_is_lost_while_it_begins_is_told_at_once() -> None:
    told: list[str | None] = []

    def run(ctx: JobContext) -> None:
        told.append(ctx.stop_reason)

    def find_while_the_lease_is_lost(scene: Scene) -> JobType:
        scene.in_flight.lose(scene.held)
        return JobType(name="test", run=run)

    scene = Scene(find_while_the_lease_is_lost)
    scene.run()
    assert told == ["lease_lost"]
    assert scene.released == []


def test_a_job_that_is_given_up_before_a_slot_takes_it_never_runs_and_goes_back() -> None:
    ran: list[str] = []
    scene = Scene(lambda _: JobType(name="test", run=lambda ctx: ran.append(ctx.job.id)))
    scene.in_flight.lose(scene.held)
    scene.run()
    assert (ran, scene.settled, scene.released) == ([], [], [scene.held])


def test_a_job_that_is_canceled_before_a_slot_takes_it_never_runs() -> None:
    ran: list[str] = []
    scene = Scene(lambda _: JobType(name="test", run=lambda ctx: ran.append(ctx.job.id)))
    scene.in_flight.cancel(scene.held)
    scene.run()
    assert ran == []
    assert [ended.state for ended in scene.settled] == [JobState.CANCELED]
    assert scene.released == []


@pytest.mark.parametrize("error", [None, ValueError()])
def test_a_handler_that_ends_after_its_attempt_was_settled_is_heard_of(error: Exception | None) -> None:
    def run(ctx: JobContext) -> None:
        scene.held.abandoned = True
        if error:
            raise error

    scene = Scene(lambda _: JobType(name="test", run=run))
    scene.run()
    assert (scene.settled, scene.released, scene.late) == ([], [], [scene.held])


def test_a_slot_is_busy_until_the_ending_is_handed_over() -> None:
    """A shutdown waits for busy slots, and then for the endings that were handed over."""
    states = []
    scene = Scene(lambda _: JobType(name="test", run=lambda _: None))
    scene.on_settled = lambda: states.append(scene.slot.state)
    scene.run()
    assert (len(scene.settled), states, scene.slot.state) == (1, ["busy"], "idle")


def a_job() -> LeasedJob:
    return leased_job()
