"""One executor's look for jobs under limits.

A place of a limit is taken when its job is leased, so nothing is leased that cannot start soon. A look comes when the
executor has room, when a job under a limit has ended here, at a notification, when a rate allows the next start, and
once a second while jobs wait: another daemon may have freed a place that it cannot use. A limit that has no free place
or token in all is passed over without its lock, so that waiting jobs cost an idle daemon next to nothing.
"""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from ayb_jobs.events import Emit
from ayb_jobs.model.job import LeasedJob
from ayb_jobs.runtime.each import do_each
from ayb_jobs.runtime.jobs.careful_limited import BATCH, CarefulLimited
from ayb_jobs.runtime.jobs.held_limits import RETRY_S, HeldLimits
from ayb_jobs.runtime.jobs.key_floors import KeyFloors
from ayb_jobs.runtime.jobs.leasing import Leasing
from ayb_jobs.runtime.jobs.releaser import Releaser
from ayb_jobs.runtime.jobs.removed_limits import RemovedLimits
from ayb_jobs.runtime.narrowing import Patience
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.queue.limited import Limited, find_waiting_limits, lease_limited

SWEEP_S = 1.0
# So often a look that found no key with a free place goes on behind the keys that it has seen, before it waits.
MOST_STEPS = 20
# Jobs that run for less are quick.
QUICK_S = 0.005
# For so long after one of them all are taken for quick: each daemon has had its turn by then.
QUICK_FOR_S = 1.0
# To ask first whether a limit is full is not worth it, if it is known to let a job start so soon.
SOON_S = 0.25
# For so long a look goes on behind jobs that are refused; the next one comes at once.
LONGEST_TURN_S = 0.25


class Filled(NamedTuple):
    """When to look again, and whether due jobs were left behind for want of room."""

    next_s: float
    waits: bool


class LimitedLook:
    """Leases jobs of some types under limits. `room` tells how many to lease now; `take` gets each batch."""

    def __init__(
        self,
        *,
        database: Database,
        leasing: Leasing,
        releaser: Releaser,
        emit: Emit,
        room: Callable[[], int],
        take: Callable[[Sequence[LeasedJob], float], None],
    ) -> None:
        self._database = database
        self._leasing = leasing
        self._releaser = releaser
        self._room = room
        self._take = take
        self._quick_until = -math.inf
        self._after: dict[str, str] = {}
        self._floors: defaultdict[tuple[str, ...], KeyFloors] = defaultdict(KeyFloors)
        self._idle: set[str] = set()  # the limits whose last look found nothing
        self._open: Sequence[str] = ()  # under which jobs wait; none if some are full
        self._held = HeldLimits()
        self._first = 0
        self._careful = CarefulLimited(
            database=database, leasing=leasing, emit=emit, lease=self._lease, after=self._begins_after
        )
        self._removed = RemovedLimits(database=database, emit=emit)
        self._patience = Patience()

    def serve(self, leasing: Leasing) -> None:
        """Lease like this from now on. Not while a look is under way."""
        self._leasing = self._careful.leasing = leasing

    def see_end(self, run_s: float) -> None:
        """Learn from a job under a limit how short those are that wait."""
        self._quick_until = time.monotonic() + QUICK_FOR_S if run_s < QUICK_S else -math.inf

    def fill(self) -> Filled:
        """Lease what there is room and place for, each limit in its turn; one that fails keeps no other from it."""
        poll_s = self._leasing.poll_s
        if self._room() <= 0:
            return Filled(poll_s, waits=True)
        with self._database.connection() as conn:
            waiting = find_waiting_limits(conn, idle=self._idle)
        self._open = () if waiting.full or waiting.removed else waiting.limits
        if not any((waiting.limits, waiting.removed, waiting.full)):
            self._after.clear()
            self._floors.clear()
            self._idle.clear()
            self._held.clear()
            return Filled(poll_s, waits=False)
        filled = do_each([partial(self._free, waiting.removed), partial(self._fill_limits, waiting.limits)])
        self._patience.begin_anew()
        return Filled(min(waiting.wait_s, *(each.next_s for each in filled)), any(each.waits for each in filled))

    def refill(self) -> Filled:
        """Lease what the places allow that were just freed, as `fill` does; it asks for less that is known."""
        if self._room() <= 0 or not self._open or not self._idle.isdisjoint(self._open):
            return self.fill()
        filled = self._fill_limits(self._open)
        self._patience.begin_anew()
        return filled

    def _fill_limits(self, names: Sequence[str]) -> Filled:
        self._first += 1
        first = self._first % max(1, len(names))
        groups = self._leasing.slots.groups(self._leasing.queues, self._room)
        self._careful.try_again(names, groups)
        filled = do_each(
            partial(self._fill_from, name, queues, room)
            for name in [*names[first:], *names[:first]]
            for queues, room in groups
        )
        return Filled(min([self._leasing.poll_s, SWEEP_S, *filled]), waits=self._room() <= 0)

    def _free(self, removed: Sequence[str]) -> Filled:
        if not removed:
            return Filled(self._leasing.poll_s, waits=False)
        more = self._removed.free(removed)
        return Filled(0.0 if more else SWEEP_S, waits=more)

    def _fill_from(self, name: str, queues: Sequence[str], most: Callable[[], int]) -> float:
        """Lease under one limit from these queues; return the seconds until its next look."""
        if rest_s := self._held.rest_s(name):
            return rest_s
        late = time.monotonic() + LONGEST_TURN_S
        for _ in range(MOST_STEPS):
            room = min(most(), BATCH)
            if room <= 0:
                return SWEEP_S
            found = self._lease_or_learn(name, queues, room)
            if found is None:
                if time.monotonic() >= late:
                    return 0.0
                continue
            if found.missed:
                return RETRY_S
            came_round = not (found.leased or found.unchanged) and found.after == self._after.get(name)
            self._after[name] = found.after
            if came_round or not found.more:
                next_s = SWEEP_S if found.wait_s is None or found.wait_s <= 0 else found.wait_s
                return min(next_s, self._floors[name, *queues].wait_s())
        return SWEEP_S

    def _lease_or_learn(self, name: str, queues: Sequence[str], room: int) -> Limited | None:
        """Lease under one limit from these queues; None if jobs were refused, which are known now."""
        try:
            found = self._lease(name, queues, room)
        except Exception as error:
            if not self._patience.blames(error):
                raise
            return self._careful.lease(name, queues, room)
        if found.unchanged:
            self._careful.refuse(found.unchanged, name, queues)
        return found

    def _begins_after(self, name: str) -> str:
        return self._after.get(name, "")

    def _lease(self, name: str, queues: Sequence[str], room: int, only: Sequence[str] | None = None) -> Limited:
        floors = self._floors[name, *queues]
        given = floors.now() if only is None else {}
        sent = time.monotonic()
        with self._releaser.answer_expected(), self._database.connection() as conn:
            found = lease_limited(
                conn,
                name,
                room=room,
                types=self._leasing.types,
                queues=queues,
                worker_id=self._leasing.worker_id,
                lease_s=self._leasing.lease_s,
                after=self._begins_after(name),
                aside=self._careful.passed_over() if only is None else (),
                only=only,
                wait_s=self._held.wait_s(),
                floors=given,
                quick=sent < self._quick_until,
            )
        if found.missed:
            self._held.missed(name)
            return found
        self._held.had(name)
        if only is None:
            floors.looked(found, time.monotonic() - sent)
        self._careful.forget([job.id for job in found.leased])
        if found.leased:
            self._idle.discard(name)
            self._take(found.leased, sent)
        elif found.wait_s is None or found.wait_s > SOON_S:
            self._idle.add(name)
        return found
