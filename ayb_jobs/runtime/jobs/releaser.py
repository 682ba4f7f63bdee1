"""Releases the jobs that this daemon should not keep, each with its attempt.

These are jobs that waited too long in the buffer, since the handlers have become slow and another daemon may be idle;
jobs whose queue or type was paused since they were leased; and orphans: jobs leased in a statement whose answer was
lost.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

from ayb_jobs import failpoints
from ayb_jobs.events import Emit, JobsCanceled, JobsReleased
from ayb_jobs.model.job import Lease
from ayb_jobs.model.lifecycle import CANCELED_WHILE_IT_RAN
from ayb_jobs.runtime.aside import Aside
from ayb_jobs.runtime.jobs.buffer import Buffer
from ayb_jobs.runtime.jobs.in_flight import Held, InFlight, leases_of
from ayb_jobs.runtime.narrowing import narrowed
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import is_refused
from ayb_jobs.storage.faults import RowUnchanged, was_refused
from ayb_jobs.storage.queue.canceling import end_canceled_leases
from ayb_jobs.storage.queue.leases import Touched, find_orphans, release_jobs
from ayb_jobs.storage.queue.left_out import find_locked
from ayb_jobs.storage.queue.settling import RowsLocked

# How often it tries again what it cannot release: rows that somebody else has locked, and what may yet be leased.
LOOK_S = 1.0
LONGEST_RETRY_S = 60.0
# A job that waited this long although it was to start at once is released, for others to run.
STALE_S = 1.0
AT_LEAST_S = 0.01


class Released(NamedTuple):
    """What became of leases, by their ids: released, or locked by somebody else, or refused by the database.

    `canceled` are of jobs that ended canceled instead. Those in none of these were lost before.
    """

    done: set[str]
    locked: set[str]
    refused: set[str]
    canceled: set[str]


def release_each(database: Database, leases: Sequence[Lease], aside: Aside, *, worker_id: str) -> Released:
    """Release jobs with their attempt. One that the database refuses is set `aside`, and keeps no other waiting."""
    result = narrowed(leases, partial(_release, database, worker_id), blames=was_refused)
    done = {lease_id for touched, _ in result.done for lease_id in touched.done}
    locked = {lease_id for touched, _ in result.done for lease_id in touched.locked}
    canceled = {lease_id for _, ended in result.done for lease_id in ended}
    refused: dict[str, Exception] = {lease.lease_id: error for lease, error in result.refused}
    refused |= {lease_id: RowUnchanged() for touched, _ in result.done for lease_id in touched.unchanged}
    untried = {lease.lease_id for lease in result.left}
    aside.put_all([(lease.job_id, refused[lease.lease_id]) for lease in leases if lease.lease_id in refused])
    for lease in leases:
        if lease.lease_id not in refused.keys() | locked | untried:  # released, or lost
            aside.forget(lease.job_id)
    if result.left and not result.done:
        raise result.refused[-1].error
    return Released(done, locked, refused.keys() | untried, canceled)


def tell_released(emit: Emit, leases: Sequence[Lease], released: Released) -> None:
    """Tell which of these jobs were released, and which ended canceled."""
    if released.done:
        emit(JobsReleased(job_ids=[lease.job_id for lease in leases if lease.lease_id in released.done]))
    if released.canceled:
        emit(JobsCanceled(job_ids=[lease.job_id for lease in leases if lease.lease_id in released.canceled]))


def _release(database: Database, worker_id: str, leases: Sequence[Lease]) -> tuple[Touched, set[str]]:
    """Release jobs; those that are to end canceled do so instead, and their leases come second."""
    with database.connection() as conn:
        touched = release_jobs(conn, leases)
    gone = touched.others(leases)
    if not gone:
        return touched, set()
    canceled, locked = _end_canceled(database, worker_id, gone)
    return touched._replace(locked=touched.locked | locked), canceled


def _end_canceled(database: Database, worker_id: str, gone: Sequence[Lease]) -> tuple[set[str], set[str]]:
    """End those of these leases whose jobs are to end canceled; return these, and those whose rows are locked.

    A row that somebody has locked keeps no other waiting. If one is locked just then, all are tried again.
    """
    with database.connection() as conn:
        locked = find_locked(conn, gone)
    free = [lease for lease in gone if lease.lease_id not in locked]
    if not free:
        return set(), locked
    try:
        with database.connection() as conn:
            return end_canceled_leases(conn, free, worker_id=worker_id, error=CANCELED_WHILE_IT_RAN), locked
    except RowsLocked:
        return set(), {lease.lease_id for lease in gone}


class Releaser:
    """Releases stale jobs and orphans in `turn`, which the thread that leases must call: no lease is then under way.

    It tries again once a second at most what cannot be released yet. If the answer to a release is lost it tries again,
    and no slot gets such jobs any more: they may be another daemon's by now.
    """

    def __init__(
        self, *, database: Database, buffers: Sequence[Buffer], in_flight: InFlight, emit: Emit, worker_id: str
    ) -> None:
        self._database = database
        self._buffers = buffers
        self._in_flight = in_flight
        self._emit = emit
        self._worker_id = worker_id
        self._stale: list[Held] = []
        self._orphans_until = 0.0
        self._orphans_left = False
        self._look_again = 0.0
        self._aside = Aside(emit, part="releaser", table="_ayb_jobs", first_s=LOOK_S, longest_s=LONGEST_RETRY_S)

    @contextmanager
    def answer_expected(self) -> Iterator[None]:
        """Look for orphans later if the block's statement leases jobs and its answer is lost."""
        owed_until = self._orphans_until
        timeouts = self._database.timeouts
        self._orphans_until = time.monotonic() + timeouts.statement_s + timeouts.late_s
        try:
            yield
        except Exception as error:
            if is_refused(error):
                self._orphans_until = owed_until
            else:
                self._look_again = 0.0
            raise
        self._orphans_until = owed_until

    def turn(self) -> None:
        """Release what is to be released, if it is time to try."""
        for buffer in self._buffers:
            self._stale += buffer.take_back(older_than_s=STALE_S)
            if paused := buffer.take_paused():
                self._stale += paused
                self._look_again = 0.0
        if not self._owes or time.monotonic() < self._look_again:
            return
        self.release_orphans()
        if self._stale:
            self._stale = self.release(self._stale)
        self._look_again = time.monotonic() + LOOK_S if self._owes else 0.0

    def next_s(self, pause_s: float) -> float:
        """Return the seconds until the next turn: `pause_s`, or fewer if there may be something to release."""
        for buffer in self._buffers:
            if not buffer.idle and (waited_s := buffer.waited_s()) is not None:
                pause_s = min(pause_s, max(AT_LEAST_S, STALE_S - waited_s))
        if self._stale or self._orphans_left:
            return min(pause_s, LOOK_S)
        if self._orphans_until:
            return min(pause_s, max(LOOK_S, self._orphans_until - time.monotonic()))
        return pause_s

    def take_back(self) -> list[Held]:
        """Take over the stale jobs that, for all that is known, have not been released yet; for a stop."""
        stale, self._stale = self._stale, []
        return stale

    @property
    def _owes(self) -> bool:
        return bool(self._stale or self._orphans_left or self._orphans_until)

    @property
    def orphans_left(self) -> bool:
        """Whether some orphans could not be released: their rows are locked, or a trigger refuses."""
        return self._orphans_left

    def release_orphans(self) -> None:
        """Release what the database leased to us in a statement whose answer never came, if there was one."""
        if not (self._orphans_left or self._orphans_until):
            return
        began = time.monotonic()
        with self._database.connection() as conn:
            orphans = find_orphans(conn, worker_id=self._worker_id, held=leases_of(self._in_flight.all()))
        self._aside.keep({one.job_id for one in orphans} | {held.job.id for held in self._stale})
        released = self._release(orphans)
        self._orphans_left = bool(released.locked or released.refused)
        if began >= self._orphans_until:
            self._orphans_until = 0.0

    def release(self, held: Sequence[Held]) -> list[Held]:
        """Release jobs that never started; return those that cannot be released yet."""
        released = self._release(leases_of(held))
        failpoints.reach(failpoints.RELEASED)
        left = released.locked | released.refused
        self._in_flight.remove(one.job.lease_id for one in held if one.job.lease_id not in left)
        return [one for one in held if one.job.lease_id in left]

    def _release(self, leases: Sequence[Lease]) -> Released:
        """Release jobs, but for those that the database refused a short while ago."""
        waiting = set(self._aside.ids())
        tried = [lease for lease in leases if lease.job_id not in waiting]
        released = release_each(self._database, tried, self._aside, worker_id=self._worker_id)
        tell_released(self._emit, leases, released)
        return released._replace(refused=released.refused | {one.lease_id for one in leases if one.job_id in waiting})
