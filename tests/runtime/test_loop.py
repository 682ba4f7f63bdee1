"""A loop turns again and again, survives what its turns raise, and stops when told."""

import threading
from collections.abc import Callable

import pytest
from psycopg import OperationalError
from psycopg.errors import AdminShutdown

from ayb_jobs.errors import DatabaseError
from ayb_jobs.events import LoopErrorRepeated, LoopFailed, LoopRecovered
from ayb_jobs.runtime.loop import Failures, Loop
from tests.eventually import eventually


def counted(turns: list[int], pause_s: float) -> Callable[[], float]:
    """A tick that notes each turn."""

    def tick() -> float:
        turns.append(1)
        return pause_s

    return tick


def test_a_loop_turns_until_stopped() -> None:
    turns: list[int] = []
    loop = Loop("test", counted(turns, 0.0), lambda _: None)
    loop.start()
    eventually(lambda: len(turns) > 3)
    loop.stop()
    assert loop.join(5)


@pytest.mark.parametrize("fails", [False, True])
def test_the_first_turn_is_waited_for_until_it_is_over(*, fails: bool) -> None:
    under_way, go_on = threading.Event(), threading.Event()

    def tick() -> float:
        under_way.set()
        go_on.wait()
        if fails:
            raise ValueError("it broke")
        return 3600.0

    loop = Loop("test", tick, lambda _: None)
    loop.start()
    assert under_way.wait(10)
    assert not loop.await_first_turn(0.0)
    go_on.set()
    assert loop.await_first_turn(10.0)
    loop.stop()
    assert loop.join(5)


def test_nobody_waits_for_the_first_turn_of_a_loop_that_was_told_to_stop() -> None:
    loop = Loop("test", lambda: 0.0, lambda _: None)
    loop.stop()
    assert loop.await_first_turn(10.0)


def test_waking_cuts_the_wait_short() -> None:
    turns: list[int] = []
    loop = Loop("test", counted(turns, 3600.0), lambda _: None)
    loop.start()
    eventually(lambda: len(turns) == 1)
    loop.wake()
    eventually(lambda: len(turns) == 2)
    loop.stop()
    assert loop.join(5)


def test_a_wake_during_a_turn_is_not_lost() -> None:
    turns: list[int] = []

    def tick() -> float:
        turns.append(1)
        if len(turns) == 1:
            loop.wake()
        return 3600.0

    loop = Loop("test", tick, lambda _: None)
    loop.start()
    eventually(lambda: len(turns) == 2)
    loop.stop()
    assert loop.join(5)


def test_each_kind_of_failure_is_told_once_counted_and_told_when_it_works_again() -> None:
    told: list[object] = []
    answers = [ValueError("one"), ValueError("two"), KeyError("three"), 3600.0]

    def tick() -> float:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, float)
        return answer

    loop = Loop("test", tick, told.append)
    loop.start()
    eventually(lambda: len(told) == 4)
    loop.stop()
    assert loop.join(5)
    assert [type(event) for event in told] == [LoopFailed, LoopErrorRepeated, LoopFailed, LoopRecovered]
    assert isinstance(told[3], LoopRecovered)
    assert told[3].failures == 3


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(1), KeyboardInterrupt(), GeneratorExit()])
def test_a_loop_whose_turns_all_fail_makes_no_progress_whatever_they_raise(error: BaseException) -> None:
    told: list[object] = []

    def tick() -> float:
        raise error

    loop = Loop("test", tick, told.append)
    loop.start()
    eventually(lambda: len(told) > 2)
    assert loop.failing
    assert not loop.waits_for_database
    assert loop.overdue_s > 0.2
    loop.stop()
    assert loop.join(5)


@pytest.mark.parametrize(
    "error", [OSError("gone"), DatabaseError("cannot connect"), OperationalError("lost"), AdminShutdown()]
)
def test_a_loop_without_a_database_says_so(error: Exception) -> None:
    def tick() -> float:
        raise error

    loop = Loop("test", tick, lambda _: None)
    loop.start()
    eventually(lambda: loop.failing)
    assert loop.waits_for_database
    loop.stop()
    assert loop.join(5)


def test_a_turn_that_succeeds_after_failures_is_progress() -> None:
    answers: list[BaseException | float] = [ValueError("no"), ValueError("no"), 3600.0]

    def tick() -> float:
        answer = answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    loop = Loop("test", tick, lambda _: None)
    loop.start()
    eventually(lambda: not answers and not loop.failing)
    assert loop.overdue_s == 0
    loop.stop()
    assert loop.join(5)


def test_a_failure_that_goes_on_is_told_again_at_growing_intervals_and_a_new_kind_at_once() -> None:
    failures = Failures("test")
    told = [second for second in range(2000) if isinstance(failures.another(ValueError(), second), LoopFailed)]
    assert told == [0, 60, 180, 420, 900, 1860]
    new = failures.another(KeyError(), 2000)
    assert isinstance(new, LoopFailed)
    assert (new.failures, new.failing_s) == (2001, 2000)
    assert isinstance(failures.another(ValueError(), 2001), LoopErrorRepeated)


def test_listeners_that_raise_end_no_loop() -> None:
    turns: list[int] = []

    def tick() -> float:
        turns.append(1)
        raise ValueError

    def emit(_: object) -> None:
        raise SystemExit

    loop = Loop("test", tick, emit)
    loop.start()
    eventually(lambda: len(turns) > 1)
    loop.stop()
    assert loop.join(5)


@pytest.mark.parametrize("times", [1, 2])
def test_a_loop_may_be_stopped_before_it_starts_and_more_than_once(times: int) -> None:
    turns: list[int] = []
    loop = Loop("test", counted(turns, 0.0), lambda _: None)
    for _ in range(times):
        loop.stop()
    assert loop.join(1)
    loop.start()
    assert loop.join(5)
    assert turns == []


def test_a_stuck_turn_is_overdue() -> None:
    release = threading.Event()
    loop = Loop("test", lambda: float(release.wait(10)), lambda _: None)
    loop.start()
    eventually(lambda: loop.overdue_s > 0.2)
    release.set()
    loop.stop()
    assert loop.join(5)


def test_a_first_turn_may_come_later_and_stopping_does_not_wait_for_it() -> None:
    turns: list[int] = []
    loop = Loop("test", counted(turns, 0.0), lambda _: None, first_after_s=3600)
    loop.start()
    assert loop.overdue_s == 0
    loop.stop()
    assert loop.join(5)
    assert turns == []
