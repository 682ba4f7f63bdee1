"""Pauses that come and go while the fleet works: of a queue, of the type of its jobs, and of a key of a limit."""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import cycle
from typing import NamedTuple

from ayb_jobs.client.enqueueing import enqueue_many
from ayb_jobs.lab.checker import JobPause
from ayb_jobs.lab.torture.fleet import Daemon
from ayb_jobs.lab.torture.retrying import RetryingConnection
from ayb_jobs.lab.torture.tides import Tides, after
from ayb_jobs.lab.torture.workers import Workers
from ayb_jobs.lab.torture.workload import KEYED, PAUSED, TENANTS, jobs_of_key, paused_jobs
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.model.pauses import NewPause, PauseKind
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.pauses import pause, resume

HELD_S, BETWEEN_S, SOON_S = 1.5, 2.0, 0.3
# A process that is dead starts nothing, long before its row says that it is gone.
UNCONFIRMED = """
    SELECT count(*)
    FROM _ayb_job_workers
    WHERE (pid = ANY (%(pids)s::int[]) AND version <> 'sql' OR id = ANY (%(workers)s::text[]))
        AND coalesce(pauses_confirmed, -1) < (SELECT max(id) FROM _ayb_job_pauses WHERE name = %(name)s)
"""


class Paused(NamedTuple):
    """What is paused: the name that it is paused by, the type of its jobs, and their key if it is one."""

    kind: PauseKind
    name: str
    job_type: str
    key: str | None = None

    @property
    def jobs(self) -> list[NewJob]:
        """Jobs of it, to be enqueued right before it is paused."""
        return paused_jobs() if self.key is None else jobs_of_key(self.key)


KEYS = [Paused(PauseKind.KEY, f"{KEYED}/{tenant}", KEYED, tenant) for tenant in TENANTS]
PLAIN = [Paused(PauseKind.TYPE, PAUSED, PAUSED), Paused(PauseKind.QUEUE, PAUSED, PAUSED)]


class Pauses:
    """Has pauses come and go, a step further in each `turn`. `held` tells when each was in force."""

    def __init__(
        self, database: RetryingConnection, *, daemons: Sequence[Daemon], workers: Workers, tides: Tides
    ) -> None:
        self.held: list[JobPause] = []
        self._database = database
        self._daemons = daemons
        self._workers = workers
        self._tides = tides
        self._paused = PLAIN[0]
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
        for paused in self._next_paused():
            self._paused = paused
            self._database.ask(partial(begin, paused=paused))
            if not self._is_soon_in_force():
                yield self._is_in_force
            self._began = time.monotonic()
            yield after(HELD_S)
            self.end()
            yield after(BETWEEN_S)

    def _next_paused(self) -> Iterator[Paused]:
        """Yield a type, a queue and a key by turns; keys have jobs only while their limit is in force."""
        keys = cycle(KEYS)
        for plain in cycle(PLAIN):
            yield plain
            if self._tides.in_force:
                yield next(keys)

    def _is_soon_in_force(self) -> bool:
        """Wait for a moment: what daemons hold starts soon, and is to be caught if it starts too late."""
        end = time.monotonic() + SOON_S
        while time.monotonic() < end:
            if self._is_in_force():
                return True
            time.sleep(0.002)
        return False

    def _is_in_force(self) -> bool:
        values = {
            "pids": [daemon.pid for daemon in self._daemons if daemon.alive],
            "workers": self._workers.ids,
            "name": self._paused.name,
        }
        row = self._database.ask(lambda conn: conn.execute(UNCONFIRMED, values).fetchone())
        return row == (0,)

    def _note_end(self) -> None:
        if self._began is not None:
            paused = self._paused
            self.held.append(JobPause(frozenset({paused.job_type}), self._began, time.monotonic(), paused.key))
            self._began = None


def begin(conn: Connection, paused: Paused) -> None:
    """Enqueue jobs of what is then paused, so that daemons hold some that have not begun."""
    enqueue_many(conn, paused.jobs)
    time.sleep(0.04)
    with conn.transaction():
        pause(conn, NewPause(kind=paused.kind, name=paused.name), by="torture")


def resume_all(conn: Connection) -> None:
    """End the pauses of a run."""
    with conn.transaction():
        for paused in (*PLAIN, *KEYS):
            resume(conn, paused.kind, paused.name)
