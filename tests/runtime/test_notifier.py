"""The notifier sleeps until there is something to hear, and wakes for whoever asked to be called again."""

import math
import threading
from collections.abc import Iterator
from contextlib import closing
from functools import partial

import pytest

from ayb_jobs.runtime.notifier import Notifier
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.listener import Listener


class Bench:
    """A notifier whose turns the test takes, and what it called."""

    def __init__(self, url: str) -> None:
        self.pauses: list[float] = []
        self.called = 0
        self.words: list[str] = []
        self.notifier = Notifier(
            connect=partial(Listener, url, name="notifier"),
            emit=lambda _event: None,
            look=self.notified,
            on_word={"schedule": lambda: self.words.append("schedule")},
            on_ended=[self.words.append],
        )

    def notified(self) -> float:
        self.called += 1
        return self.pauses.pop(0) if self.pauses else math.inf


@pytest.fixture
def bench(database_url: str) -> Iterator[Bench]:
    bench = Bench(database_url)
    with closing(bench.notifier):
        yield bench


def connected(bench: Bench) -> None:
    """Take the first turn: to connect, which calls all once, since what was said before was not heard, and to probe."""
    bench.notifier.tick()
    assert bench.words == ["schedule"]
    bench.words.clear()
    bench.called = 0


def test_whoever_asks_is_called_again_although_nothing_is_heard(bench: Bench) -> None:
    bench.pauses += [0.01, 0.01]
    bench.notifier.tick()
    assert bench.called in {1, 2}  # two where connecting took longer than the pause
    bench.notifier.tick()
    assert bench.called >= 2


def test_a_notification_ends_the_wait_and_its_word_is_passed_on(bench: Bench, conn: Connection) -> None:
    connected(bench)
    conn.execute("NOTIFY ayb_jobs, 'schedule'")
    bench.notifier.tick()
    assert (bench.called, bench.words) == (1, ["schedule"])


def test_the_job_that_a_worker_outside_has_ended_is_passed_on(bench: Bench, conn: Connection) -> None:
    connected(bench)
    conn.execute("NOTIFY ayb_jobs, 'ended 7'")
    bench.notifier.tick()
    assert (bench.called, bench.words) == (1, ["7"])


def test_what_comes_with_the_answer_to_a_probe_is_heard(bench: Bench, conn: Connection) -> None:
    connected(bench)
    conn.execute("NOTIFY ayb_jobs")
    listener = bench.notifier._listener
    assert listener is not None
    listener.probe()
    bench.notifier.tick()
    assert bench.called == 1


def test_a_stop_ends_the_wait(bench: Bench) -> None:
    connected(bench)
    turn = threading.Thread(target=bench.notifier.tick)
    turn.start()
    bench.notifier.interrupt()
    turn.join()
    assert bench.called == 0


def test_a_connection_that_breaks_ends_the_wait(bench: Bench, conn: Connection) -> None:
    connected(bench)
    failed: list[BaseException] = []

    def turns() -> None:
        try:
            while True:
                bench.notifier.tick()
        except Exception as error:
            failed.append(error)

    waiting = threading.Thread(target=turns)
    waiting.start()
    conn.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'notifier'")
    waiting.join()
    assert failed
    assert bench.notifier._listener is None
