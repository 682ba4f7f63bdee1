"""Signals are noted without taking a lock, at any moment of the main thread."""

import signal
from collections.abc import Iterator

import pytest

from ayb_jobs.signals import Signals, watched_signals


@pytest.fixture
def signals() -> Iterator[Signals]:
    with watched_signals() as watched:
        yield watched


def test_a_signal_ends_the_wait_and_gives_the_reason(signals: Signals) -> None:
    assert not signals.wait(0.0)
    signal.raise_signal(signal.SIGTERM)
    assert signals.wait(60)
    assert (signals.stopping, signals.reason, signals.count) == (True, "SIGTERM", 1)


def test_a_second_signal_cuts_the_stop_short(signals: Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ayb_jobs.signals.ECHO_S", 0.0)
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
    monkeypatch.setattr("ayb_jobs.signals.ECHO_S", 0.0)
    for _ in range(100_000):
        signals(signal.SIGTERM, None)
    assert signals.wait(60)


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with watched_signals() as watched:
        assert signal.getsignal(signal.SIGTERM) is watched
    assert signal.getsignal(signal.SIGTERM) is before
