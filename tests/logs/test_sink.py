"""The thread that writes lines wakes for them, and rests once a second has passed without one."""

import math
import os
import time
from functools import partial

import pytest

from ayb_jobs.logs import sink
from ayb_jobs.logs.sink import Sink
from tests.eventually import eventually


class Watched(Sink):
    """A sink that writes nowhere; `waits` is for how long it has waited, and `ticks` when it was called."""

    def __init__(self) -> None:
        self.nowhere = os.open(os.devnull, os.O_WRONLY)
        super().__init__(self.nowhere)
        self.waits: list[float] = []
        self.ticks: list[float] = []
        self.on_tick = lambda: self.ticks.append(time.monotonic())

    def _take(self, wait_s: float) -> tuple[list[str], bool]:
        self.waits.append(wait_s)
        return super()._take(wait_s)

    def has_ticked(self, times: int) -> bool:
        return len(self.ticks) >= times

    def rests(self) -> bool:
        return self.waits[-1:] == [math.inf]


def test_it_is_called_after_each_line_until_nothing_is_written_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink, "TICK_S", 0.01)
    watched = Watched()
    watched.start()
    for number in range(1, 4):
        eventually(watched.rests)
        began = time.monotonic()
        watched.put("line")
        eventually(partial(watched.has_ticked, 2 * number))
        assert watched.ticks[2 * number - 2] >= began, "it was called while it rested"
    eventually(watched.rests)
    assert len(watched.ticks) == 6
    assert watched.close(10)
    os.close(watched.nowhere)
