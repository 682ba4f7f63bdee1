"""One executor's look for due jobs: it leases what there is room for, and nothing that another executor would run.

Each executor has a look of its own, with its own types, room and floors. So one that is short keeps no other waiting,
nothing is leased that cannot start, and no floor hides a job: the types of a look never change.
"""

import math
import select
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ayb_jobs import failpoints
from ayb_jobs.events import Emit, JobsLeased
from ayb_jobs.model.job import LeasedJob
from ayb_jobs.runtime.each import do_each
from ayb_jobs.runtime.jobs.backlog import Backlog
from ayb_jobs.runtime.jobs.careful_leasing import CarefulLeasing
from ayb_jobs.runtime.jobs.in_flight import Held, InFlight
from ayb_jobs.runtime.jobs.lanes import Lanes
from ayb_jobs.runtime.jobs.leasing import Leasing
from ayb_jobs.runtime.jobs.limited_look import SOON_S, LimitedLook
from ayb_jobs.runtime.jobs.releaser import Releaser
from ayb_jobs.runtime.jobs.sweep import SweepClock
from ayb_jobs.runtime.narrowing import Patience
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.limits import watch_limits
from ayb_jobs.storage.queue.beside_limits import Beside, lease_beside_limits
from ayb_jobs.storage.queue.lanes import Lane, instant_ago
from ayb_jobs.storage.queue.leasing import lease_jobs

BATCH = 500
# About as long as a thread takes to wake up.
LET_OTHERS_START_S = 0.00005
# A look that takes longer and finds nothing has walked many jobs that are not for it.
LONG_WALK_S = 0.01
# What comes meanwhile is walked at each look.
WALK_AGAIN_S = 10.0
# Most jobs are committed this soon after the time from which they are due.
COMMITTED_S = 1.0


def _lease_plain(conn: Connection, **values: Any) -> Beside:
    return Beside(lease_jobs(conn, **values))


class Look:
    """Leases jobs of some types.

    `room` tells how many to lease now. `put` gets what was leased, and tells whether somebody waited for it.
    `backlog` tells whether the last look left due jobs behind. The next look is due at `due`, on the monotonic clock.
    """

    def __init__(
        self,
        *,
        database: Database,
        leasing: Leasing,
        room: Callable[[], int],
        put: Callable[[Sequence[Held]], bool],
        in_flight: InFlight,
        releaser: Releaser,
        emit: Emit,
        backlog: Backlog,
    ) -> None:
        self.backlog = backlog
        self.due = 0.0
        self._places_at = math.inf  # when places of limits are free that are not yet
        self._database = database
        self._leasing = leasing
        self._room = room
        self._put = put
        self._in_flight = in_flight
        self._releaser = releaser
        self._emit = emit
        self._careful = CarefulLeasing(
            database=database, leasing=leasing, releaser=releaser, emit=emit, take=self._take
        )
        self._limited = LimitedLook(
            database=database, leasing=leasing, releaser=releaser, emit=emit, room=room, take=self._take
        )
        self._limited_first = self._limited_waits = False
        self._has_backlog = self._has_put_under = False
        self._had_no_room = False
        self._has_filled = False
        self._lanes = Lanes(leasing.queues)
        self._sweeps = SweepClock()
        self._forget_floors = False
        self._walk_again = 0.0
        self._patience = Patience()

    def fill(self) -> float:
        """Lease what there is room for; return the seconds until the next look.

        While there are limits, jobs under them come second: the look before them puts what it meets under its limit.
        While others fill each batch, both come first in turn, so that neither takes all the room. A look that fails
        does not stop the other.
        """
        if not self._is_due(time.monotonic()):
            return self._refill()
        self.backlog.asks = False
        self.due = 0.0  # at once, if this look fails
        self._places_at = math.inf
        next_s = self._fill()
        self.due = time.monotonic() + next_s
        return max(0.0, min(next_s, self._places_at - time.monotonic()))

    @property
    def next_at(self) -> float:
        """When the next look is due, of all or under limits alone."""
        return min(self.due, self._places_at)

    def free_places(self, run_s: float) -> None:
        """Have the next turn look under limits: a job under one has ended, which ran for so long."""
        self._limited.see_end(run_s)
        self._places_at = 0.0

    def is_wanted(self, now: float) -> bool:
        """Tell whether somebody asks for a look, or its time has come."""
        return self.backlog.asks or now >= self.next_at

    def _is_due(self, now: float) -> bool:
        return self.backlog.asks or now >= self.due or now < self._places_at

    def _refill(self) -> float:
        """Lease under limits alone; the next look of all comes no later for it."""
        due, self.due = self.due, 0.0
        self._places_at = math.inf
        filled = self._limited.refill()
        self.backlog.waits |= filled.waits
        self.due = min(due, time.monotonic() + self._await_places(filled.next_s))
        return max(0.0, self.next_at - time.monotonic())

    def _await_places(self, next_s: float) -> float:
        """Have the next look under limits alone come so soon; one that comes late may as well be of all."""
        if next_s > SOON_S:
            return next_s
        self._places_at = min(self._places_at, time.monotonic() + next_s)
        return self._leasing.poll_s

    def _fill(self) -> float:
        if not self._leasing.limits.known:
            self._learn_limits()
        if not self._leasing.limits.exist:
            return self._fill_plain()
        self._limited_first = self._has_backlog and not self._limited_first
        self._has_put_under = False
        ways = (self._fill_limited, self._fill_plain) if self._limited_first else (self._fill_plain, self._fill_limited)
        next_s = min(do_each(ways))
        too_late = self._limited_first and self._has_put_under
        self.backlog.waits |= self._limited_waits or too_late
        return 0.0 if too_late and self._room() > 0 else next_s

    def _learn_limits(self) -> None:
        """Ask whether there are limits: a look beside them costs three times as much, and the first is a large one."""
        with self._database.connection() as conn:
            seen = watch_limits(conn, worker_id=self._leasing.worker_id)
        self._leasing.limits.learn_first(exist=seen.any)

    def _fill_limited(self) -> float:
        filled = self._limited.fill()
        self._limited_waits = filled.waits
        return self._await_places(filled.next_s)

    def _fill_plain(self) -> float:
        poll_s = self._leasing.poll_s
        # Before the room is measured: whoever makes room from now on asks for another turn.
        self.backlog.waits = self._had_no_room = True
        self._has_backlog = False
        limit = min(self._room(), BATCH)
        if limit <= 0:
            return poll_s
        # Whoever makes room while this look is under way need not ask: the room is measured at its end, if more waits.
        self.backlog.waits = self._had_no_room = False
        sweeping, by_turn = self._sweeps.wait_s() == 0, self._lanes.by_turn
        leased = self._lease(limit, sweeping=sweeping)
        more = leased >= limit or by_turn or self._has_filled
        self._has_backlog = self._had_no_room = more
        self.backlog.waits = more or bool(self._leasing.slots.full)
        if more:
            return 0.0 if self._room() > 0 else poll_s
        sweeps = not sweeping or self._careful.unfinished
        return self._careful.next_s(min(poll_s, self._sweeps.wait_s()) if sweeps else poll_s)

    def has_room_again(self) -> bool:
        """Tell whether the last look found no room, and there is some."""
        return self._had_no_room and self._room() > 0

    def serve(self, queues: Sequence[str]) -> None:
        """Lease from these queues from now on. Not while a look is under way."""
        self._leasing = self._careful.leasing = replace(self._leasing, queues=queues)
        self._limited.serve(self._leasing)
        self._lanes = Lanes(queues)
        self.due = 0.0

    def begin_anew(self) -> None:
        """Look from the bottom of each queue next, in whatever thread that is called."""
        self._forget_floors = True

    def _lease(self, limit: int, *, sweeping: bool) -> int:
        """Lease up to `limit` jobs, and return how many."""
        if self._forget_floors:
            self._forget_floors = False
            self._walk_again = 0.0
            self._lanes.forget_floors()
        tried = self._careful.try_again(limit)
        if tried >= limit:
            return tried
        rooms = self._leasing.slots.free()
        self._has_filled = False
        lanes = self._lanes.now(limit - tried, rooms, sweeping=sweeping)
        began, walks_all = time.monotonic(), not rooms and not self._lanes.by_turn
        try:
            leased = self._lease_batch(lanes, limit - tried, sweeping=sweeping)
        except Exception as error:
            if not self._patience.blames(error):
                raise
            self._lanes.by_turn = False
            leased = self._careful.lease(lanes, limit - tried)
            self._has_filled = bool(rooms) and leased > 0
        else:
            if walks_all and not leased:
                self._begin_behind_the_walked(began)
            if sweeping and leased + tried < limit:
                leased += self._careful.check(lanes, limit - tried - leased)
        self._patience.begin_anew()
        return tried + leased

    def _begin_behind_the_walked(self, began: float) -> None:
        """Have the next looks begin where one ended that found nothing, if it took long; it walked others' jobs.

        Not each time: a database far away takes long, too.
        """
        now = time.monotonic()
        if now - began > LONG_WALK_S and now >= self._walk_again:
            with self._database.connection() as conn:
                self._lanes.walked(instant_ago(conn, now - began + COMMITTED_S))
            self._walk_again = now + WALK_AGAIN_S

    def _lease_batch(self, lanes: Sequence[Lane], limit: int, *, sweeping: bool) -> int:
        sent = time.monotonic()
        with self._releaser.answer_expected(), self._database.connection() as conn:
            jobs, put_under, kept = self._lease_on(conn, lanes, limit)
        failpoints.reach(failpoints.LEASED)
        leased = [job for job in jobs if job.lease_id]
        if leased:
            self._take(leased, sent)
        met = len(jobs) + put_under + len(kept)
        self._has_put_under |= put_under > 0
        if sweeping:
            self._sweeps.swept(time.monotonic() - sent)
        self._lanes.looked(jobs, limit, full=met == limit, sweeping=sweeping)
        # More may stand behind what took the last free slot of its queue.
        self._has_filled = self._lanes.has_filled(jobs, kept=met > len(jobs))
        if len(leased) < len(jobs):
            self._careful.refuse([job.id for job in jobs if not job.lease_id])
        if kept:
            self._careful.refuse(kept)
        return met

    def _lease_on(self, conn: Connection, lanes: Sequence[Lane], limit: int) -> Beside:
        lease = lease_beside_limits if self._leasing.limits.exist else _lease_plain
        return lease(
            conn,
            worker_id=self._leasing.worker_id,
            lanes=lanes,
            types=self._leasing.types,
            limit=limit,
            lease_s=self._leasing.lease_s,
            aside=self._careful.aside(),
            by_turn=self._lanes.by_turn,
        )

    def _take(self, jobs: Sequence[LeasedJob], sent: float) -> None:
        """Hand leased jobs to their executor. The leasing statement was sent at `sent`."""
        if self._put(self._in_flight.add(jobs, sent)):
            # They need the interpreter first; counting can wait. (`time.sleep` fails while torture fakes the clock.)
            select.select((), (), (), LET_OTHERS_START_S)
        self._emit(JobsLeased(jobs=jobs))
