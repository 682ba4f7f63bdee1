"""Every interleaving of two producers' leases and commits with a settling or a recovery, under a limit of one.

Each actor has two steps, what it does and its commit. A step that waits for a lock is left waiting, and the others go
on. The same walk over a copy of the function without its lock finds the race: so the walk would see one.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from itertools import permutations
from typing import Any

import pytest

from ayb_jobs.model.limits import NewLimit
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.fleet import limits
from tests.eventually import eventually
from tests.factories import make_job

RUNNING = "SELECT count(*) FROM _ayb_jobs WHERE state = 'running'"
IS_BLOCKED = "SELECT cardinality(pg_blocking_pids(%s)) > 0"
LEASE = """
    SELECT count(id) FROM {function}(
        'few', 9, '{{test}}', '{{default}}', '{{}}', NULL, '', 'w', 60, false, current_setting('search_path'))
"""
END = {
    "settled": "UPDATE _ayb_jobs SET state = 'completed', lease_id = NULL, lease_until = NULL WHERE id = %s",
    "recovered": "UPDATE _ayb_jobs SET state = 'queued', lease_id = NULL, lease_until = NULL WHERE id = %s",
}


class Actor:
    """A session with a thread of its own, which takes its steps in their order."""

    def __init__(self, url: str, act: Callable[[Connection], object]) -> None:
        self._conn = connect(url)
        self._thread = ThreadPoolExecutor(1)
        self._act = act
        self._last: Future[object] = Future()

    def begin(self) -> None:
        """Act in a transaction that stays open."""

        def act() -> object:
            self._conn.execute("BEGIN")
            return self._act(self._conn)

        self._last = self._thread.submit(act)

    def commit(self) -> None:
        self._last = self._thread.submit(self._conn.execute, "COMMIT")

    def settle_down(self, observer: Connection) -> None:
        """Wait until its step has ended, or waits for a lock."""
        pid = self._conn.info.backend_pid
        eventually(lambda: self._last.done() or observer.execute(IS_BLOCKED, (pid,)).fetchone() == (True,))

    def finish(self) -> None:
        self._last.result(20)

    def close(self) -> None:
        self._thread.shutdown()
        self._conn.close()


def interleavings(actors: int) -> Iterator[Sequence[int]]:
    """Yield each order of two steps of each actor, but those that only swap the two producers."""
    seen = set()
    for order in permutations([number for number in range(actors) for _ in range(2)]):
        if order not in seen and order.index(0) < order.index(1):
            seen.add(order)
            yield order


def most_running(url: str, conn: Connection, function: str, end: str) -> int:
    """Return the most jobs that ever ran at once after any step, over all interleavings."""
    most = 0
    with ExitStack() as stack:
        job: list[str] = [""]

        def lease(on: Connection) -> object:
            return on.execute(LEASE.format(function=function).encode()).fetchone()

        acts: list[Callable[[Connection], object]] = [lease, lease, lambda on: on.execute(END[end].encode(), (job[0],))]
        actors = [stack.enter_context(closing(Actor(url, act))) for act in acts]
        for order in interleavings(len(actors)):
            conn.execute("DELETE FROM _ayb_jobs")
            under: dict[str, Any] = {"limited_by": "few", "limited_key": "", "priority": 6}
            job[0] = make_job(conn, "running", **under)
            for _ in range(3):
                make_job(conn, **under)
            begun = set[int]()
            for number in order:
                (actors[number].commit if number in begun else actors[number].begin)()
                begun.add(number)
                actors[number].settle_down(conn)
                most = max(most, running(conn))
            for actor in actors:
                actor.finish()
            most = max(most, running(conn))
    return most


def running(conn: Connection) -> int:
    row = conn.execute(RUNNING.encode()).fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize("end", END)
def test_no_interleaving_of_producers_and_an_ending_exceeds_the_limit(
    database_url: str, conn: Connection, end: str
) -> None:
    with conn.transaction():
        limits.set_limit(conn, NewLimit(name="few", types=["test"], max_running=1), by="ada")
    assert most_running(database_url, conn, "_ayb_job_lease_limited", end) == 1


def test_the_same_walk_finds_the_race_of_leasing_without_the_lock(database_url: str, conn: Connection) -> None:
    with conn.transaction():
        limits.set_limit(conn, NewLimit(name="few", types=["test"], max_running=1), by="ada")
    row = conn.execute("SELECT pg_get_functiondef('_ayb_job_lease_limited'::regproc)").fetchone()
    assert row is not None
    unlocked = row[0].replace("_ayb_job_lease_limited(", "unlocked_lease(", 1)
    unlocked = unlocked.replace("it.name = p_name FOR NO KEY UPDATE;", "it.name = p_name;", 1)
    assert "-- locked" in unlocked
    assert "p_name;\n" in unlocked
    conn.execute(unlocked.encode())
    assert most_running(database_url, conn, "public.unlocked_lease", "settled") == 2
