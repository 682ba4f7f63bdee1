"""Whoever may soon lose its lease is told in time, whether the database answers or not."""

import time

import pytest

from ayb_jobs.events import JobOverran, JobsLeased, LeasesLost
from ayb_jobs.handlers.context import JobContext
from ayb_jobs.handlers.services import ContextServices
from ayb_jobs.model.backoff import Backoff
from ayb_jobs.model.job import LeasedJob
from ayb_jobs.model.lifecycle import Outcome, Settlement
from ayb_jobs.runtime.jobs.in_flight import Held, InFlight
from ayb_jobs.runtime.jobs.watchdog import TURN_S, Watchdog
from ayb_jobs.storage.connections import Database
from tests.factories import leased_job
from tests.running import Recorder, silent_logger

LEASE_S = 60.0
TYPE = leased_job().type
NEVER_REACHED = "postgresql://postgres@127.0.0.1:1/none"


def hold(in_flight: InFlight, *, running: bool, extended_ago_s: float) -> Held:
    """Hold a job whose lease was last extended so long ago, with a handler or without one."""
    (held,) = in_flight.add([a_job(len(in_flight))], time.monotonic() - extended_ago_s)
    if running:
        services = ContextServices(database=Database(NEVER_REACHED), lease_s=LEASE_S, logger=silent_logger())
        held.context = JobContext(held.job, services, None)
    return held


def a_job(number: int) -> LeasedJob:
    return leased_job(id=f"job-{number}", lease_id=f"lease-{number}")


def look(in_flight: InFlight) -> list[str]:
    """Have a watchdog look once, and return the ids of the jobs that it gave up."""
    recorder = Recorder()
    Watchdog(
        in_flight=in_flight,
        settle=lambda *_: None,
        emit=recorder,
        backoff=Backoff(),
        chance=lambda: 0.0,
        lease_s=LEASE_S,
    ).tick()
    return [job_id for event in recorder.of(LeasesLost) for job_id in event.job_ids]


def test_it_rests_while_nothing_is_held_and_is_woken_once_by_what_is_leased() -> None:
    in_flight, woken = InFlight(), list[str]()
    watchdog = Watchdog(
        in_flight=in_flight,
        settle=lambda *_: None,
        emit=lambda _: None,
        backoff=Backoff(),
        chance=lambda: 0.0,
        lease_s=LEASE_S,
        wake=lambda: woken.append("leased"),
    )
    assert watchdog.tick() > LEASE_S
    held = hold(in_flight, running=True, extended_ago_s=0.0)
    for _ in range(2):
        watchdog.hear(JobsLeased(jobs=[held.job]))
    assert woken == ["leased"]
    assert watchdog.tick() <= TURN_S
    watchdog.hear(JobsLeased(jobs=[held.job]))
    assert woken == ["leased"], "it was woken although it looks twice a second"
    in_flight.remove([held.job.lease_id])
    assert watchdog.tick() > LEASE_S


def test_a_handler_is_told_before_its_lease_runs_out() -> None:
    in_flight = InFlight()
    held = hold(in_flight, running=True, extended_ago_s=LEASE_S * 0.7)
    assert look(in_flight) == [held.job.id]
    assert held.context is not None
    assert held.context.stop_reason == "lease_lost"
    assert look(in_flight) == []


def test_a_job_that_never_started_is_let_go_before_its_lease_runs_out() -> None:
    in_flight = InFlight()
    held = hold(in_flight, running=False, extended_ago_s=LEASE_S * 0.7)
    assert look(in_flight) == [held.job.id]
    assert held.lost
    assert not in_flight.holds(held)


def test_a_lease_that_was_extended_of_late_is_left_alone() -> None:
    in_flight = InFlight()
    held = hold(in_flight, running=True, extended_ago_s=LEASE_S * 0.3)
    assert look(in_flight) == []
    assert held.context is not None
    assert held.context.stop_reason is None


def overrun(in_flight: InFlight, *, extended_ago_s: float = 0.0) -> Held:
    """Hold a job whose handler was to end long ago."""
    held = hold(in_flight, running=True, extended_ago_s=extended_ago_s)
    assert held.context is not None
    held.context.deadline = time.monotonic() - LEASE_S
    return held


def look_twice(in_flight: InFlight) -> tuple[list[bool], list[Settlement]]:
    """Have a watchdog look twice: what it told of handlers that overran, and the endings that it wrote for them.

    A handler may take a quarter of a second to end.
    """
    recorder = Recorder()
    settled: list[Settlement] = []
    watchdog = Watchdog(
        in_flight=in_flight,
        settle=lambda _, settlement: settled.append(settlement),
        emit=recorder,
        backoff=Backoff(),
        chance=lambda: 0.0,
        lease_s=LEASE_S,
        stopping_s={TYPE: 0.25}.__getitem__,
    )
    watchdog.tick()
    watchdog.tick()
    return [event.abandoned for event in recorder.of(JobOverran)], settled


def test_a_handler_that_does_not_stop_is_settled_without_it() -> None:
    in_flight = InFlight()
    held = overrun(in_flight)
    assert held.context is not None
    assert held.context.deadline is not None
    held.started = held.context.deadline - 1.5
    told, settled = look_twice(in_flight)
    assert told == [False, True]
    assert [(settlement.job, settlement.outcome, settlement.error) for settlement in settled] == [
        (held.job, Outcome.TIMED_OUT, "timed out after 1.5 s, and the handler did not stop within 0.25 s of being told")
    ]


@pytest.mark.parametrize("done", ["ended", "handed_over"])
def test_a_handler_that_is_done_never_overruns_however_long_its_ending_waits_for_the_database(done: str) -> None:
    in_flight = InFlight()
    held = overrun(in_flight, extended_ago_s=LEASE_S * 0.7)
    setattr(held, done, True)
    assert look_twice(in_flight) == ([], [])
    assert held.context is not None
    assert (held.lost, held.context.stop_reason) == (False, None)
