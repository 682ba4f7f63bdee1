"""A loop turns again and again, survives what its turns raise, and stops when told."""

import threading

import pytest

from ayb_jobs.events import LoopErrorRepeated, LoopFailed, LoopRecovered
from ayb_jobs.runtime.loop import Loop
from tests.eventually import eventually


def test_a_loop_turns_until_stopped() -> None:
    turns: list[int] = []
    loop = Loop("test", lambda: turns.append(1) or 0.0, lambda _: None)  # type: ignore[func-returns-value]
    loop.start()
    eventually(lambda: len(turns) > 3)
    loop.stop()
    assert loop.join(5)


def test_waking_cuts_the_wait_short() -> None:
    turns: list[int] = []
    loop = Loop("test", lambda: turns.append(1) or 3600.0, lambda _: None)  # type: ignore[func-returns-value]
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


def test_a_failing_turn_is_told_once_counted_and_told_when_it_works_again() -> None:
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
    assert [type(event) for event in told] == [LoopFailed, LoopErrorRepeated, LoopErrorRepeated, LoopRecovered]
    assert isinstance(told[3], LoopRecovered)
    assert told[3].failures == 3


@pytest.mark.parametrize("times", [1, 2])
def test_a_loop_may_be_stopped_before_it_starts_and_more_than_once(times: int) -> None:
    turns: list[int] = []
    loop = Loop("test", lambda: turns.append(1) or 0.0, lambda _: None)  # type: ignore[func-returns-value]
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
    loop = Loop("test", lambda: turns.append(1) or 0.0, lambda _: None, first_after_s=3600)  # type: ignore[func-returns-value]
    loop.start()
    assert loop.overdue_s == 0
    loop.stop()
    assert loop.join(5)
    assert turns == []
