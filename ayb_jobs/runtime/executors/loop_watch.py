"""Notices a handler that blocks the event loop, and tells which one, and where in its code."""

import selectors
import sysconfig
import time
from collections.abc import Callable
from types import FrameType
from typing import NamedTuple

from ayb_jobs.events import Emit, EventLoopBlocked
from ayb_jobs.model.job import LeasedJob

BLOCKED_S = 0.1
LOOK_S = 0.04
IDLE_S = 60.0


class TimedSelector(selectors.DefaultSelector):
    """Tells which turn the loop is in. Each turn pays for a call and an addition."""

    def __init__(self, begin_turn: Callable[[], None]) -> None:
        super().__init__()
        self.turn = 0
        self._begin_turn = begin_turn

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait as any selector does; nobody's step is under way meanwhile."""
        self._begin_turn()
        ready = super().select(timeout)
        self.turn += 1
        return ready


class Step(NamedTuple):
    """What the loop runs now: the turn, the job whose handler it is (None for a task of its own), and its code."""

    turn: int
    task: int
    job: LeasedJob | None
    name: str
    where: str


def place_of(frame: FrameType | None) -> str:
    """Return where a thread is: the innermost line that is not of a library, or the innermost of all."""
    innermost = frame
    while frame is not None and is_of_a_library(frame.f_code.co_filename):
        frame = frame.f_back
    at = frame or innermost
    return "" if at is None else f"{at.f_code.co_filename}:{at.f_lineno} in {at.f_code.co_name}"


def is_of_a_library(filename: str) -> bool:
    """Tell whether a file is one of Python's own or an installed one."""
    return filename.startswith((sysconfig.get_paths()["stdlib"], "<frozen")) or "site-packages" in filename


class LoopWatch:
    """Looks at the loop from a thread of its own in its `tick`, while attempts run.

    A task makes one step in each turn of the loop. So one that is found in the same turn for 0.1 s has blocked the loop
    for so long. It is told once for each such step, while that still goes on.
    """

    def __init__(self, *, is_at_work: Callable[[], bool], step: Callable[[], Step | None], emit: Emit) -> None:
        self._is_at_work = is_at_work
        self._step = step
        self._emit = emit
        self._seen: Step | None = None
        self._since = 0.0
        self._told = False

    def tick(self) -> float:
        """Look once; return the seconds until the next look."""
        if not self._is_at_work():
            self._seen = None
            return IDLE_S
        step, now = self._step(), time.monotonic()
        if step is None or self._seen is None or (step.turn, step.task) != (self._seen.turn, self._seen.task):
            self._seen, self._since, self._told = step, now, False
        elif now - self._since >= BLOCKED_S and not self._told:
            self._told = True
            self._emit(EventLoopBlocked(job=step.job, name=step.name, where=step.where, seconds=now - self._since))
        return LOOK_S
