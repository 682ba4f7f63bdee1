"""When endings are settled: a lone one at once, and those of short handlers together."""

import math
import time

import pytest

from ayb_jobs.events import JobsReleased, JobsSettled
from ayb_jobs.model.job import PRIORITIES
from ayb_jobs.model.lifecycle import settle_result
from ayb_jobs.runtime.jobs import completer as module
from ayb_jobs.runtime.jobs.in_flight import Held
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection
from tests.completing import Completing
from tests.eventually import eventually


@pytest.fixture
def completing(db: Database, conn: Connection, monkeypatch: pytest.MonkeyPatch) -> Completing:
    monkeypatch.setattr(module, "PACE_S", 3600.0)
    return Completing(db, conn)


def test_a_lone_ending_is_settled_at_once_however_soon_after_another(completing: Completing) -> None:
    for _ in range(2):
        completing.end_one()
        completing.completer.tick()
    assert [len(event.settlements) for event in completing.of(JobsSettled)] == [1, 1]


def test_while_another_handler_runs_endings_wait_for_a_statement_that_they_share(completing: Completing) -> None:
    completing.lease_one()
    completing.end_one()
    completing.completer.tick()
    for _ in range(2):
        completing.end_one()
        assert 3000 < completing.completer.tick() <= 3600
    completing.completer._began = -math.inf
    assert completing.completer.tick() == 0
    assert [len(event.settlements) for event in completing.of(JobsSettled)] == [1, 2]


def test_the_place_of_a_job_under_a_limit_is_free_at_once(completing: Completing) -> None:
    completing.lease_one()
    completing.end_one()
    completing.completer.tick()
    held = completing.lease_one()
    limited = held.job._replace(priority=max(PRIORITIES) + 1)
    completing.completer.settle(held, settle_result(limited, None, 0.0, 0.0))
    assert completing.completer.tick() == 0
    assert len(completing.of(JobsSettled)) == 2


def end_limited(completing: Completing, held: Held, run_s: float = 0.0) -> None:
    now = time.monotonic()
    limited = held.job._replace(priority=max(PRIORITIES) + 1)
    completing.completer.settle(held, settle_result(limited, None, now - run_s, now))


def test_the_place_of_a_short_job_is_freed_with_those_of_the_jobs_that_end_just_then(
    completing: Completing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GATHER_S", 3600.0)
    first, second, third = (completing.lease_one() for _ in range(3))
    end_limited(completing, first)
    assert completing.completer.tick() > 3000
    end_limited(completing, second)
    assert completing.completer.tick() > 3000
    end_limited(completing, third)  # none is left that could end
    assert completing.completer.tick() == 0
    assert [len(event.settlements) for event in completing.of(JobsSettled)] == [3]


def test_it_waits_for_no_longer_than_they_may_take(completing: Completing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GATHER_S", 1.0)
    for run_s in (2.0, 0.0):
        completing.lease_one()
        end_limited(completing, completing.lease_one(), run_s)
        eventually(lambda: completing.completer.tick() == 0)
        assert completing.completer.pending == 0
    assert [len(event.settlements) for event in completing.of(JobsSettled)] == [1, 1]


def test_many_endings_do_not_wait(completing: Completing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FEW", 3)
    completing.lease_one()
    completing.end_one()
    completing.completer.tick()
    for _ in range(3):
        completing.end_one()
    assert completing.completer.tick() == 0
    assert [len(event.settlements) for event in completing.of(JobsSettled)] == [1, 3]


def test_at_a_stop_nothing_waits(completing: Completing) -> None:
    completing.lease_one()
    completing.end_one()
    completing.completer.tick()
    completing.end_one()
    completing.completer.hurry()
    assert completing.completer.tick() == 0
    assert len(completing.of(JobsSettled)) == 2


def test_a_job_is_given_back_at_once_though_endings_never_cease(completing: Completing) -> None:
    held = completing.lease_one()
    completing.completer.release(held)
    completing.end_one()
    assert completing.completer.tick() == 0
    assert [event.job_ids for event in completing.of(JobsReleased)] == [[held.job.id]]
    assert len(completing.of(JobsSettled)) == 1
