"""Whoever may soon lose its lease is told in time, whether the database answers or not."""

import time

from ayb_jobs.events import LeasesLost
from ayb_jobs.handlers.context import JobContext
from ayb_jobs.handlers.services import ContextServices
from ayb_jobs.model.backoff import Backoff
from ayb_jobs.model.job import LeasedJob
from ayb_jobs.runtime.jobs.in_flight import Held, InFlight
from ayb_jobs.runtime.jobs.watchdog import Watchdog
from ayb_jobs.storage.connections import Database
from tests.factories import leased_job
from tests.running import Recorder, silent_logger

LEASE_S = 60.0
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
