"""A slot's own care, beyond what a daemon at work shows."""

import time
from collections.abc import Callable
from itertools import pairwise

import pytest

from ayb_jobs.events import LoopErrorRepeated, LoopFailed, LoopRecovered
from ayb_jobs.handlers.context import JobContext
from ayb_jobs.handlers.job_type import JobType
from ayb_jobs.handlers.services import ContextServices
from ayb_jobs.model.backoff import Backoff
from ayb_jobs.model.job import JobState, LeasedJob
from ayb_jobs.model.lifecycle import Outcome, Settlement
from ayb_jobs.runtime.executors.threads import Threads
from ayb_jobs.runtime.jobs.attempts import Attempts, Endings
from ayb_jobs.runtime.jobs.buffer import Buffer
from ayb_jobs.runtime.jobs.in_flight import Held, InFlight
from ayb_jobs.runtime.jobs.payloads import Payloads
from ayb_jobs.runtime.jobs.slot import Slot
from ayb_jobs.storage.connections import Database
from tests.eventually import eventually
from tests.factories import leased_job
from tests.running import Recorder, silent_logger

NEVER_REACHED = "postgresql://postgres@127.0.0.1:1/none"


class Scene:
    """A slot with one job, whose handler is made as the slot looks for it, and what is settled and given back."""

    def __init__(self, find: Callable[["Scene"], JobType], job: LeasedJob | None = None) -> None:
        self.in_flight = InFlight()
        (self.held,) = self.in_flight.add([job or a_job()], time.monotonic())
        self.settled: list[Settlement] = []
        self.released: list[Held] = []
        self.late: list[Held] = []
        self.on_settled: Callable[[], None] = lambda: None
        self.on_released: Callable[[], None] = lambda: None
        self.on_low: Callable[[], None] = lambda: None
        self.recorder = Recorder()
        self.buffer = Buffer(on_low=self.tell_low)
        self.buffer.put([self.held])
        self.slot = Slot(
            name="slot",
            buffer=self.buffer,
            find=lambda _: find(self),
            execute=Threads().run,
            attempts=Attempts(
                services=ContextServices(database=Database(NEVER_REACHED), lease_s=60, logger=silent_logger()),
                backoff=Backoff(),
                endings=Endings(
                    settle=self.settle,
                    release=self.release,
                    late=self.late.append,
                ),
            ),
            payloads=Payloads(database=Database(NEVER_REACHED)),
            emit=self.recorder,
        )

    def tell_low(self) -> None:
        """Do what the test wants done when the buffer runs low."""
        self.on_low()

    def put(self) -> Held:
        """Give the slot one more job."""
        (held,) = self.in_flight.add([leased_job(id="another", lease_id="another")], time.monotonic())
        self.buffer.put([held])
        return held

    def told(self) -> list[tuple[str, type[BaseException]]]:
        """Return which failures were told, by the names of what failed."""
        return [(event.loop, type(event.error)) for event in self.recorder.of(LoopFailed)]

    def release(self, held: Held) -> None:
        """Keep a job that was given back."""
        self.on_released()
        self.released.append(held)

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


FINE = JobType(name="test", run=lambda _: None)


def failing_once(error: BaseException) -> Callable[[], None]:
    """Return what raises this as it is called first, and nothing then."""
    errors = [error]

    def fail() -> None:
        if errors:
            raise errors.pop()

    return fail


@pytest.mark.parametrize("error", [SystemExit(3), MemoryError()])
def test_a_slot_outlives_a_failing_search_and_gives_the_job_back(error: BaseException) -> None:
    fail = failing_once(error)

    def find(_: Scene) -> JobType:
        fail()
        return FINE

    scene = Scene(find)
    scene.slot.start()
    eventually(lambda: scene.released == [scene.held])
    assert scene.slot.state == "idle"
    scene.put()
    eventually(lambda: [ended.job.id for ended in scene.settled] == ["another"])
    eventually(lambda: scene.recorder.of(LoopRecovered))
    scene.buffer.close()
    assert scene.slot.join(5)
    assert scene.told() == [("slot", type(error))]


@pytest.mark.parametrize(("attempt", "state"), [(1, JobState.QUEUED), (3, JobState.FAILED)])
def test_a_job_whose_search_fails_uses_up_its_attempts(attempt: int, state: JobState) -> None:
    def find(_: Scene) -> JobType:
        raise KeyError("test")

    scene = Scene(find, leased_job(attempt=attempt, max_attempts=3))
    scene.run()
    (settlement,) = scene.settled
    assert (settlement.outcome, settlement.state, scene.released) == (Outcome.FAILED, state, [])
    assert settlement.error is not None
    assert "the daemon failed around the handler (KeyError)" in settlement.error
    assert scene.told() == [("slot", KeyError)]


def test_a_slot_outlives_a_failing_take_and_no_job_is_dropped() -> None:
    scene = Scene(lambda _: FINE)
    scene.on_low = failing_once(RuntimeError("no bell"))
    scene.run()
    assert (len(scene.settled), scene.released) == (1, [])
    assert scene.told() == [("slot", RuntimeError)]


def test_an_attempt_whose_ending_cannot_be_handed_over_fails() -> None:
    scene = Scene(lambda _: FINE)
    scene.on_settled = failing_once(ValueError("too odd"))
    scene.run()
    (settlement,) = scene.settled
    assert (settlement.outcome, settlement.state) == (Outcome.FAILED, JobState.QUEUED)
    assert settlement.error is not None
    assert "ValueError" in settlement.error
    assert scene.told() == [("slot", ValueError)]
    assert scene.slot.state == "idle"


def test_a_job_whose_ending_cannot_be_handed_over_at_all_is_extended_no_longer() -> None:
    def fail() -> None:
        raise OSError

    def find(_: Scene) -> JobType:
        raise OSError

    scene = Scene(find)
    scene.on_settled = fail
    scene.slot.start()
    eventually(lambda: scene.held.lost)
    scene.buffer.close()
    assert scene.slot.join(5)
    assert scene.told() == [("slot", OSError)]
    assert len(scene.recorder.of(LoopErrorRepeated)) == 1


def test_a_slot_that_fails_again_and_again_pauses_and_tells_it_once() -> None:
    times = []

    def fail(_: Scene) -> JobType:
        times.append(time.monotonic())
        raise KeyError("test")

    scene = Scene(fail)
    for _ in range(3):
        scene.put()
    scene.slot.start()
    eventually(lambda: len(scene.settled) == 4)
    scene.buffer.close()
    assert scene.slot.join(5)
    pauses = [after - before for before, after in pairwise(times)]
    assert all(pause >= 0.1 * 2**number for number, pause in enumerate(pauses)), pauses
    assert scene.told() == [("slot", KeyError)]
    assert len(scene.recorder.of(LoopErrorRepeated)) == 3


def a_job() -> LeasedJob:
    return leased_job()
