"""Pauses that come and go while the daemons work: now of a queue, now of the type of its jobs."""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import cycle

from ayb_jobs.client.enqueueing import enqueue_many
from ayb_jobs.lab.checker import JobPause
from ayb_jobs.lab.torture.fleet import Daemon
from ayb_jobs.lab.torture.retrying import RetryingConnection
from ayb_jobs.lab.torture.tides import after
from ayb_jobs.lab.torture.workload import PAUSED, paused_jobs
from ayb_jobs.model.pauses import NewPause, PauseKind
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.pauses import pause, resume

HELD_S, BETWEEN_S, SOON_S = 1.5, 2.0, 0.3
# A process that is dead starts nothing, long before its row says that it is gone.
UNCONFIRMED = """
    SELECT count(*)
    FROM _ayb_job_workers
    WHERE pid = ANY (%(pids)s::int[])
        AND coalesce(pauses_confirmed, -1) < (SELECT max(id) FROM _ayb_job_pauses WHERE name = %(name)s)
"""


class Pauses:
    """Has pauses come and go, a step further in each `turn`. `held` tells when each was in force."""

    def __init__(self, database: RetryingConnection, daemons: Sequence[Daemon]) -> None:
        self.held: list[JobPause] = []
        self._database = database
        self._daemons = daemons
        self._began: float | None = None
        self._waits_for: Callable[[], bool] = lambda: True
        self._steps = self._come_and_go()

    def turn(self) -> None:
        """Take the next step, if what it waits for is so."""
        if self._waits_for():
            self._waits_for = next(self._steps)

    def end(self) -> None:
        """Resume whatever is paused."""
        self._note_end()
        self._database.ask(resume_all)

    def _come_and_go(self) -> Iterator[Callable[[], bool]]:
        for kind in cycle((PauseKind.TYPE, PauseKind.QUEUE)):
            self._database.ask(partial(begin, kind=kind))
            if not self._is_soon_in_force():
                yield self._is_in_force
            self._began = time.monotonic()
            yield after(HELD_S)
            self.end()
            yield after(BETWEEN_S)

    def _is_soon_in_force(self) -> bool:
        """Wait for a moment: what daemons hold starts soon, and is to be caught if it starts too late."""
        end = time.monotonic() + SOON_S
        while time.monotonic() < end:
            if self._is_in_force():
                return True
            time.sleep(0.002)
        return False

    def _is_in_force(self) -> bool:
        pids = [daemon.pid for daemon in self._daemons if daemon.alive]
        row = self._database.ask(lambda conn: conn.execute(UNCONFIRMED, {"pids": pids, "name": PAUSED}).fetchone())
        return row == (0,)

    def _note_end(self) -> None:
        if self._began is not None:
            self.held.append(JobPause(frozenset({PAUSED}), self._began, time.monotonic()))
            self._began = None


def begin(conn: Connection, kind: PauseKind) -> None:
    """Enqueue jobs of what is then paused, so that daemons hold some that have not begun."""
    enqueue_many(conn, paused_jobs())
    time.sleep(0.04)
    with conn.transaction():
        pause(conn, NewPause(kind=kind, name=PAUSED), by="torture")


def resume_all(conn: Connection) -> None:
    """End the pauses of a run."""
    with conn.transaction():
        for kind in PauseKind:
            resume(conn, kind, PAUSED)
