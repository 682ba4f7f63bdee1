"""Every interleaving of what a few connections do, step by step: a step that waits for a lock is left to wait.

Each actor has a connection and a thread of its own. A schedule says whose step comes next; an actor that waits for
another's lock goes on once that is free, with the steps that it has missed.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager

from ayb_jobs.storage.database import Connection, connect

Step = Callable[[Connection], object]
LONGEST_S = 20.0
WAITS = "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = %s"


def schedules(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield every order in which actors with so many steps each can take them."""
    if not any(lengths):
        yield []
    for actor, left in enumerate(lengths):
        if left:
            rest = [*lengths]
            rest[actor] -= 1
            for schedule in schedules(rest):
                yield [actor, *schedule]


class Actor:
    """One connection, in a thread of its own. Its steps that it has not taken are `left`."""

    def __init__(self, conn: Connection, pool: ThreadPoolExecutor, watcher: Connection) -> None:
        self._conn = conn
        self._pool = pool
        self._watcher = watcher
        self._under_way: Future[object] | None = None
        self.left: list[Step] = []

    def begin(self, steps: Sequence[Step]) -> None:
        """Have these steps to take."""
        self.left = list(steps)

    def take(self) -> None:
        """Take the next step, unless the one before waits; return when it has ended, or waits for a lock."""
        if self.is_waiting() or not self.left:
            return
        self._under_way = self._pool.submit(self.left.pop(0), self._conn)
        give_up = time.monotonic() + LONGEST_S
        while not self._under_way.done() and not self._waits_for_a_lock():
            assert time.monotonic() < give_up, "a step neither ends nor waits"
        if self._under_way.done():
            self._under_way.result()

    def is_waiting(self) -> bool:
        """Whether the step under way still waits for a lock."""
        return self._under_way is not None and not self._under_way.done()

    def finish(self) -> bool:
        """Take a step that was missed, if there is one and none waits; tell whether anything is left."""
        self.take()
        return bool(self.left) or self.is_waiting()

    def _waits_for_a_lock(self) -> bool:
        row = self._watcher.execute(WAITS, (self._conn.info.backend_pid,)).fetchone()
        return bool(row and row[0])


@contextmanager
def actors(url: str, count: int) -> Iterator[list[Actor]]:
    """Make so many actors."""
    with ExitStack() as stack:
        watcher = stack.enter_context(closing(connect(url)))
        pools = [stack.enter_context(ThreadPoolExecutor(1)) for _ in range(count)]
        conns = [stack.enter_context(closing(connect(url))) for _ in range(count)]
        yield [Actor(conn, pool, watcher) for conn, pool in zip(conns, pools, strict=True)]


def play(schedule: Sequence[int], cast: Sequence[Actor], scripts: Sequence[Sequence[Step]]) -> None:
    """Take the steps of these scripts in the order of a schedule, and then whatever was missed."""
    for actor, steps in zip(cast, scripts, strict=True):
        actor.begin(steps)
    for number in schedule:
        cast[number].take()
    give_up = time.monotonic() + LONGEST_S
    while sum(actor.finish() for actor in cast):
        assert time.monotonic() < give_up, "the actors wait for each other"


def begun(step: Step) -> Step:
    """Return a step that begins a transaction first."""

    def both(conn: Connection) -> None:
        conn.execute("BEGIN")
        step(conn)

    return both


def commit(conn: Connection) -> None:
    """Commit it."""
    conn.execute("COMMIT")
