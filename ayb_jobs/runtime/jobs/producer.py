"""Leases jobs into the buffer: as many as can start soon, in large batches while there is a backlog."""

import math
import threading
import time
from collections.abc import Callable, Sequence

from ayb_jobs import failpoints
from ayb_jobs.events import Emit, JobsLeased, JobsReleased, LoopErrorRepeated
from ayb_jobs.model.job import LeasedJob
from ayb_jobs.runtime.jobs.buffer import Buffer
from ayb_jobs.runtime.jobs.in_flight import Held, InFlight, leases_of
from ayb_jobs.runtime.jobs.sweep import SweepClock
from ayb_jobs.storage.database import Database, is_refused
from ayb_jobs.storage.queue.leases import find_orphans, release_jobs
from ayb_jobs.storage.queue.leasing import Lane, lease_jobs

BATCH = 500
# Jobs are leased ahead of a free slot only where they can start within this time.
AHEAD_S = 0.05
MOST_AHEAD = 2 * BATCH
# About as long as a thread takes to wake up.
LET_OTHERS_START_S = 0.00005
# How often what is to be given back is looked at again: rows that somebody else has locked, and what may yet be leased.
LOOK_S = 1.0
# What has waited this long although it was to start at once is given back, for others to run.
STALE_S = 1.0


class Producer:
    """Keeps the buffer filled. Its `tick` is one turn: lease a batch where there is room.

    `notified` takes a turn as well. `mean_run_s` tells how long a handler runs on average, as far as known, `wake`
    cuts the wait for the next turn short, and `leased` is called for each batch: it must cost next to nothing.
    """

    def __init__(
        self,
        *,
        database: Database,
        buffer: Buffer,
        in_flight: InFlight,
        emit: Emit,
        worker_id: str,
        queues: Sequence[str],
        types: Sequence[str],
        concurrency: int,
        lease_s: float,
        poll_s: float,
        mean_run_s: Callable[[], float | None],
        wake: Callable[[], None],
        leased: Callable[[], None],
    ) -> None:
        self._database = database
        self._buffer = buffer
        self._in_flight = in_flight
        self._emit = emit
        self._worker_id = worker_id
        self._types = types
        self._concurrency = concurrency
        self._lease_s = lease_s
        self._poll_s = poll_s
        self._mean_run_s = mean_run_s
        self._wake = wake
        self._leased = leased
        self._lanes = [Lane(queue, priority) for priority in range(1, 5) for queue in queues]
        self._bottom = list(self._lanes)
        self._sweeps = SweepClock()
        self._more_waiting = False
        self._orphans_until = 0.0
        self._orphans_locked = False
        self._stale: list[Held] = []
        self._look_again = 0.0
        self._turn = threading.Lock()  # the loop's thread and the notifier's take turns

    def tick(self) -> float:
        """Lease what there is room for; return the seconds until the next turn."""
        with self._turn:
            return self._take_turn()

    def _take_turn(self) -> float:
        self._give_back()
        pause_s = self._fill()
        if self._stale or self._orphans_locked:
            return min(pause_s, LOOK_S)
        if self._orphans_until:
            return min(pause_s, max(LOOK_S, self._orphans_until - time.monotonic()))
        return pause_s

    def _fill(self) -> float:
        # Before the room is measured: a worker that finds the buffer low from now on asks for another turn.
        self._more_waiting = True
        limit = min(self._room(), BATCH)
        if limit <= 0:
            return self._poll_s
        sweeping = self._sweeps.wait_s() == 0
        jobs = self._lease(limit, sweeping=sweeping)
        self._more_waiting = len(jobs) == limit
        if self._more_waiting:
            return 0.0 if self._room() > 0 else self._poll_s
        return self._poll_s if sweeping else min(self._poll_s, self._sweeps.wait_s())

    def notified(self) -> float:
        """Look at once, since there may be new jobs; return the seconds until a further look is wanted, for ever mostly.

        In the caller's own thread, unless a turn is under way: waking another takes a lone job as long as all else that
        this process does before its handler starts.
        """
        self._more_waiting = True
        if not self._turn.acquire(blocking=False):
            self._wake()
            return math.inf
        try:
            pause_s = self._take_turn()
        except Exception as error:  # noqa: BLE001 - not the caller's: counted here, and met again by the loop's own turn
            self._emit(LoopErrorRepeated(loop="producer", error=error))
            pause_s = 0.0
        finally:
            self._turn.release()
        if pause_s == 0:
            self._wake()
        return pause_s if 0 < pause_s < self._poll_s else math.inf

    def room_made(self) -> None:
        """Look again at once where the last look left jobs behind. Called whenever the buffer runs low."""
        if self._more_waiting:
            self._more_waiting = False
            self._wake()

    def _room(self) -> int:
        """Return how many jobs to lease now: for each idle worker one, and what can start within `AHEAD_S`."""
        run_s = self._mean_run_s()
        ahead = min(int(self._concurrency * AHEAD_S / run_s), MOST_AHEAD) if run_s else 0
        self._buffer.low_mark = ahead // 2
        waiting = len(self._buffer)
        if waiting > ahead // 2:
            return 0  # a half-full buffer is refilled in one large batch, later
        return self._buffer.idle + ahead - waiting

    def _lease(self, limit: int, *, sweeping: bool) -> list[LeasedJob]:
        with self._database.connection() as conn:
            sent = time.monotonic()
            owed_until = self._orphans_until
            timeouts = self._database.timeouts
            self._orphans_until = sent + timeouts.statement_s + timeouts.late_s  # until there is an answer
            try:
                jobs = lease_jobs(
                    conn,
                    worker_id=self._worker_id,
                    lanes=self._bottom if sweeping else self._lanes,
                    types=self._types,
                    limit=limit,
                    lease_s=self._lease_s,
                )
                self._orphans_until = owed_until
            except Exception as error:
                if is_refused(error):
                    self._orphans_until = owed_until
                else:
                    self._look_again = 0.0
                raise
        failpoints.reach(failpoints.LEASED)
        if sweeping:
            self._sweeps.swept(time.monotonic() - sent)
        if jobs:
            self._raise_floors(jobs, sweeping=sweeping, full=len(jobs) == limit)
            workers_wait = self._buffer.idle > 0
            self._buffer.put(self._in_flight.add(jobs, sent))
            if workers_wait:
                time.sleep(LET_OTHERS_START_S)  # they need the interpreter first; counting can wait
            self._leased()
            self._emit(JobsLeased(jobs=jobs))
        return jobs

    def _raise_floors(self, jobs: Sequence[LeasedJob], *, sweeping: bool, full: bool) -> None:
        """Start the next look of each lane where this one ended.

        A sweep that found a whole batch may lower a floor: there is more below the old one. One that ran dry leaves it,
        since it has looked at everything between.
        """
        if sweeping and not full:
            return
        ends = {(job.queue, job.priority): (job.run_at_text, job.id) for job in jobs}
        self._lanes = [
            Lane(lane.queue, lane.priority, *ends.get((lane.queue, lane.priority), (lane.floor_run_at, lane.floor_id)))
            for lane in self._lanes
        ]

    def take_back(self) -> list[Held]:
        """Take over what is being given back and, for all that is known, has not been yet; for a stop."""
        stale, self._stale = self._stale, []
        return stale

    @property
    def _owes(self) -> bool:
        """Whether there is, or may yet be, something to be given back."""
        return bool(self._stale or self._orphans_locked or self._orphans_until)

    def _give_back(self) -> None:
        """Give back what this daemon should not keep; at once, and once a second at most what cannot be given back yet.

        That is what should have started long ago, since the handlers have become slow and another daemon may be idle, and
        what was leased in a lost answer. Where the answer to giving back is lost it is tried again, and no worker gets
        such jobs any more: they may be another daemon's by now.
        """
        self._stale += self._buffer.take_back(older_than_s=STALE_S)
        if not self._owes or time.monotonic() < self._look_again:
            return
        self.release_orphans()
        if self._stale:
            self._stale = self.release(self._stale)
        self._look_again = time.monotonic() + LOOK_S if self._owes else 0.0

    @property
    def orphans_locked(self) -> bool:
        """Whether there are orphans left because somebody else has their rows locked."""
        return self._orphans_locked

    def release_orphans(self) -> None:
        """Give back what the database leased to us in a statement whose answer never came, if there was one."""
        if not (self._orphans_locked or self._orphans_until):
            return
        began = time.monotonic()
        with self._database.connection() as conn:
            held = [*leases_of(self._in_flight.all()), *self._in_flight.disowned]
            orphans = find_orphans(conn, worker_id=self._worker_id, held=held)
            released, locked = release_jobs(conn, orphans)
        self._orphans_locked = bool(locked)
        if began >= self._orphans_until:
            self._orphans_until = 0.0
        if released:
            self._emit(JobsReleased(job_ids=[orphan.job_id for orphan in orphans if orphan.lease_id in released]))

    def release(self, held: Sequence[Held]) -> list[Held]:
        """Give jobs back that never started, each with its attempt; return those whose rows somebody else has locked."""
        with self._database.connection() as conn:
            released, locked = release_jobs(conn, leases_of(held))
        failpoints.reach(failpoints.RELEASED)
        self._in_flight.remove(one.job.lease_id for one in held if one.job.lease_id not in locked)
        if released:
            self._emit(JobsReleased(job_ids=[one.job.id for one in held if one.job.lease_id in released]))
        return [one for one in held if one.job.lease_id in locked]
