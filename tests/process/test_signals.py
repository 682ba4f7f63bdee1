"""Signals are noted without taking a lock, at any moment of the main thread."""

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from ayb_jobs.process.signals import Signals, watched_signals


@pytest.fixture
def signals() -> Iterator[Signals]:
    with watched_signals() as watched:
        yield watched


def test_a_signal_ends_the_wait_and_gives_the_reason(signals: Signals) -> None:
    assert not signals.wait(0.0)
    signal.raise_signal(signal.SIGTERM)
    assert signals.wait(60)
    assert (signals.stopping, signals.reason, signals.count) == (True, "SIGTERM", 1)


def test_a_signal_that_another_thread_is_given_ends_the_wait(signals: Signals) -> None:
    """As where it comes right before the wait begins, no system call of the main thread is interrupted."""
    ended = threading.Event()
    in_time: list[bool] = []

    def be_given_it() -> None:
        time.sleep(0.2)  # the main thread waits by then; if not, the test is only easier
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        in_time.append(ended.wait(10))
        os.kill(os.getpid(), signal.SIGTERM)  # ends a wait that went on

    thread = threading.Thread(target=be_given_it)
    thread.start()
    assert signals.wait(60)
    ended.set()
    thread.join()
    assert in_time == [True]


def test_another_signal_does_not_keep_the_wait_from_waiting(signals: Signals) -> None:
    before = signal.signal(signal.SIGUSR1, lambda _number, _frame: None)
    try:
        signal.raise_signal(signal.SIGUSR1)
        assert not signals.wait(60)
        began = time.monotonic()
        assert not signals.wait(0.2)
        assert time.monotonic() - began >= 0.2
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_second_signal_cuts_the_stop_short(signals: Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ayb_jobs.process.signals.ECHO_S", 0.0)
    hurried: list[bool] = []
    signals.on_second = lambda: hurried.append(True)
    signal.raise_signal(signal.SIGINT)
    assert hurried == []
    signal.raise_signal(signal.SIGTERM)
    assert hurried == [True]
    assert signals.reason == "SIGINT"


def test_the_echo_of_a_signal_is_no_second_one(signals: Signals) -> None:
    hurried: list[bool] = []
    signals.on_second = lambda: hurried.append(True)
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)
    assert hurried == []
    assert signals.count == 1


def test_a_storm_of_signals_is_survived(signals: Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ayb_jobs.process.signals.ECHO_S", 0.0)
    for _ in range(100_000):
        signals(signal.SIGTERM, None)
    assert signals.wait(60)


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with watched_signals() as watched:
        assert signal.getsignal(signal.SIGTERM) is watched
    assert signal.getsignal(signal.SIGTERM) is before
