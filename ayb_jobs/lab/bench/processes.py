"""The processes that are measured: each starts, tells lines of JSON, and ends when its standard input does."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, NamedTuple

from ayb_jobs.errors import AybJobsError

END_S = 30.0


class Stuck(AybJobsError):
    """A measured process ended, or told nothing for too long."""


class Told(NamedTuple):
    """One line of one process: an event's name, its value, and the process's id."""

    event: str
    value: Any
    pid: int


class Measured:
    """A measured process, and what it tells."""

    def __init__(self, process: "subprocess.Popen[str]", told: "SimpleQueue[Told]") -> None:
        self.pid = process.pid
        self._process = process
        self._told = told

    def tell(self, within_s: float) -> Told:
        """Return the next thing it tells. Raises `Stuck` where it ended, or nothing comes in time."""
        try:
            told = self._told.get(timeout=within_s)
        except Empty:
            raise Stuck(f"a measured process told nothing for {within_s:g} s") from None
        if told.event == "ended":
            raise Stuck("a measured process ended by itself; what it said is above")
        return told

    def wait_for(self, event: str, within_s: float = END_S) -> Any:
        """Skip what it tells up to an event, and return that event's value."""
        while True:
            told = self.tell(within_s)
            if told.event == event:
                return told.value

    def take_turn(self, count: int) -> float:
        """Have bare work done so many times, and return when that ended, on the monotonic clock."""
        if self._process.stdin:
            self._process.stdin.write(f"{count}\n")
            self._process.stdin.flush()
        ended, _ = self.wait_for("settled")
        return float(ended)


@contextmanager
def measured(kind: str, url: str, *, told: "SimpleQueue[Told] | None" = None, **options: Any) -> Iterator[Measured]:
    """Run a process of one kind (see `ayb_jobs.lab.bench.measured`) for the time of the block, once it is ready."""
    told = told or SimpleQueue()
    process = subprocess.Popen(
        [sys.executable, "-m", "ayb_jobs.lab.bench.measured", kind, json.dumps({"url": url, **options})],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    reader = Thread(target=read, args=(process, told), daemon=True)
    reader.start()
    try:
        yield Measured(process, told)
    finally:
        if process.stdin:
            process.stdin.close()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        reader.join(END_S)
        if process.stdout:
            process.stdout.close()


def read(process: "subprocess.Popen[str]", told: "SimpleQueue[Told]") -> None:
    """Pass on what a process tells, until it ends."""
    for line in process.stdout or ():
        event, value = json.loads(line)
        told.put(Told(event, value, process.pid))
    told.put(Told("ended", None, process.pid))


class Drained(NamedTuple):
    """How a drain went: when the first handler began, and after each settled batch the time and the count so far.

    `parts` are how many jobs each of the processes has settled.
    """

    began: float
    marks: Sequence[tuple[float, int]]
    parts: Sequence[int] = ()

    @property
    def rate(self) -> float:
        """Jobs settled in a second, from the first handler's start to the last settling."""
        ended, count = self.marks[-1]
        return count / max(ended - self.began, 1e-9)

    def rate_of_first(self, share: float) -> float:
        """Jobs settled in a second, up to this share of them."""
        count = self.marks[-1][1] * share
        return count / max(self._when(count) - self.began, 1e-9)

    def part(self, number: int, of: int) -> float:
        """Jobs settled in a second in one of so many equal parts, from 0."""
        share = self.marks[-1][1] / of
        return share / max(self._when(share * (number + 1)) - self._when(share * number), 1e-9)

    def _when(self, count: float) -> float:
        """Return when so many jobs were settled, as if each batch had been settled job by job."""
        earlier, before = self.began, 0
        for at, settled in self.marks:
            if settled >= count:
                return earlier + (at - earlier) * (count - before) / (settled - before)
            earlier, before = at, settled
        return earlier


def drain(
    kind: str,
    url: str,
    jobs: int,
    *,
    processes: int = 1,
    once_ready: Callable[[], object] = lambda: None,
    **options: Any,
) -> Drained:
    """Have processes of one kind work until `jobs` are settled, and return how it went.

    `once_ready` is called when all of them have started: jobs that are made then find none that still starts.
    """
    told: SimpleQueue[Told] = SimpleQueue()
    with ExitStack() as stack:
        running = [stack.enter_context(measured(kind, url, told=told, **options)) for _ in range(processes)]
        began: float | None = None
        starting = processes
        count, marks = 0, []
        parts = dict.fromkeys([process.pid for process in running], 0)
        give_up = time.monotonic() + 60 + jobs / 200
        while count < jobs:
            event, value, pid = running[0].tell(max(0.1, give_up - time.monotonic()))
            if event == "began":
                began = value if began is None else min(began, value)
            elif event == "ready":
                starting -= 1
                if not starting:
                    once_ready()
            elif event == "settled":
                at, settled = value
                count += settled
                parts[pid] += settled
                marks.append((at, count))
    return Drained(marks[0][0] if began is None else began, marks, list(parts.values()))
