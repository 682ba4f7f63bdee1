"""One executor's look for jobs under limits.

A place of a limit is taken when its job is leased, so nothing is leased that cannot start soon. A look comes when the
executor has room, when a job under a limit has ended here, at a notification, when a rate allows the next start, and
once a second while jobs wait: another daemon may have freed a place that it cannot use. A limit that has no free place
or token in all is passed over without its lock, so that waiting jobs cost an idle daemon next to nothing.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from ayb_jobs.events import Emit
from ayb_jobs.model.job import LeasedJob
from ayb_jobs.runtime.aside import Aside
from ayb_jobs.runtime.each import do_each
from ayb_jobs.runtime.jobs.held_limits import RETRY_S, HeldLimits
from ayb_jobs.runtime.jobs.key_floors import KeyFloors
from ayb_jobs.runtime.jobs.leasing import Leasing
from ayb_jobs.runtime.jobs.refused_jobs import RefusedJobs
from ayb_jobs.runtime.jobs.releaser import Releaser
from ayb_jobs.runtime.narrowing import Patience, narrowed
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.faults import RowUnchanged, was_refused
from ayb_jobs.storage.queue.limited import (
    Limited,
    find_first_limited,
    find_limits_of,
    find_waiting_limits,
    lease_limited,
)
from ayb_jobs.storage.queue.put_under import Freed, find_removed, free_removed
from ayb_jobs.storage.queue.unleasable import find_unleasable

BATCH = 500
SWEEP_S = 1.0
FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 60.0
# So often a look that found no key with a free place goes on behind the keys that it has seen, before it waits.
MOST_STEPS = 20
# For so long a look goes on behind jobs that are refused; the next one comes at once.
LONGEST_TURN_S = 0.25
# So many jobs are tried at once if one is refused.
FOUND_AT_ONCE = 1000
# So many are tried again before the others have their turn.
TRIED_AGAIN_AT_ONCE = 16

# Queues, and what tells how many of their jobs may be leased.
Group = tuple[list[str], Callable[[], int]]


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
        self.leasing = leasing
        self._releaser = releaser
        self._room = room
        self._take = take
        self._after: dict[str, str] = {}
        self._floors: defaultdict[tuple[str, ...], KeyFloors] = defaultdict(KeyFloors)
        self._idle: set[str] = set()  # the limits whose last look found nothing
        self._held = HeldLimits()
        self._first = 0
        self._refused = RefusedJobs(
            Aside(emit, part="limits", table="_ayb_jobs", first_s=FIRST_RETRY_S, longest_s=LONGEST_RETRY_S)
        )
        self._kept_under_removed = Aside(
            emit, part="limits", table="_ayb_jobs", first_s=FIRST_RETRY_S, longest_s=LONGEST_RETRY_S
        )
        self._patience = Patience()

    def fill(self) -> Filled:
        """Lease what there is room and place for, each limit in its turn; one that fails keeps no other from it."""
        poll_s = self.leasing.poll_s
        if self._room() <= 0:
            return Filled(poll_s, waits=True)
        with self._database.connection() as conn:
            waiting = find_waiting_limits(conn, idle=self._idle)
        if not any((waiting.limits, waiting.removed, waiting.full)):
            self._after.clear()
            self._floors.clear()
            self._idle.clear()
            self._held.clear()
            return Filled(poll_s, waits=False)
        filled = do_each([partial(self._free, waiting.removed), partial(self._fill_limits, waiting.limits)])
        self._patience.begin_anew()
        return Filled(min(waiting.wait_s, *(each.next_s for each in filled)), any(each.waits for each in filled))

    def _fill_limits(self, names: Sequence[str]) -> Filled:
        self._first += 1
        first = self._first % max(1, len(names))
        groups = self.leasing.slots.groups(self.leasing.queues, self._room)
        self._try_again(names, groups)
        filled = do_each(
            partial(self._fill_from, name, queues, room)
            for name in [*names[first:], *names[:first]]
            for queues, room in groups
        )
        return Filled(min([self.leasing.poll_s, SWEEP_S, *filled]), waits=self._room() <= 0)

    def _free(self, removed: Sequence[str]) -> Filled:
        """Let jobs go that wait under limits which are no more; those that the database keeps there are set aside."""
        if not removed:
            return Filled(self.leasing.poll_s, waits=False)
        with self._database.connection() as conn:
            ids = find_removed(conn, removed, aside=self._kept_under_removed.ids())
        freed = narrowed(ids, self._free_some, blames=self._patience.blames)
        kept = [(job_id, RowUnchanged()) for each in freed.done for job_id in each.kept]
        self._kept_under_removed.put_all([*freed.refused, *kept])
        if freed.left or any(each.jobs for each in freed.done):
            return Filled(0.0, waits=True)
        return Filled(SWEEP_S, waits=False)

    def _free_some(self, ids: Sequence[str]) -> Freed:
        with self._database.connection() as conn:
            freed = free_removed(conn, ids)
        for job_id in set(ids).difference(freed.kept):
            self._kept_under_removed.forget(job_id)
        return freed

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
            return None if self._set_unleasable_aside(name, queues) else self._lease_carefully(name, queues, room)
        if found.unchanged:
            self._refused.put_all([(job_id, RowUnchanged()) for job_id in found.unchanged])
            self._set_unleasable_aside(name, queues)
        return found

    def _lease(self, name: str, queues: Sequence[str], room: int, only: Sequence[str] | None = None) -> Limited:
        floors = self._floors[name, *queues]
        given = floors.now() if only is None else {}
        sent = time.monotonic()
        with self._releaser.answer_expected(), self._database.connection() as conn:
            found = lease_limited(
                conn,
                name,
                room=room,
                types=self.leasing.types,
                queues=queues,
                worker_id=self.leasing.worker_id,
                lease_s=self.leasing.lease_s,
                after=self._after.get(name, ""),
                aside=self._refused.passed_over() if only is None else (),
                only=only,
                wait_s=self._held.wait_s(),
                floors=given,
            )
        if found.missed:
            self._held.missed(name)
            return found
        self._held.had(name)
        if only is None:
            floors.looked(found, time.monotonic() - sent)
        for job in found.leased:
            self._refused.forget(job.id)
        if found.leased:
            self._idle.discard(name)
            self._take(found.leased, sent)
        else:
            self._idle.add(name)
        return found

    def _set_unleasable_aside(self, name: str, queues: Sequence[str]) -> bool:
        """Set aside which of the first jobs under a limit the database refuses; tell whether there are any."""
        with self._database.connection() as conn:
            ids = self._find_first(conn, name, queues, FOUND_AT_ONCE)
            refused = find_unleasable(
                conn, ids, worker_id=self.leasing.worker_id, lease_s=self.leasing.lease_s, enough=len(ids)
            )
        self._refused.put_all(refused)
        return bool(refused)

    def _lease_carefully(self, name: str, queues: Sequence[str], room: int) -> Limited:
        """Lease under a limit although the database refuses some of its jobs: these are set aside."""
        with self._database.connection() as conn:
            ids = self._find_first(conn, name, queues, room)
        done = self._lease_these(ids, name, queues, room)
        return done[-1] if done else Limited([], self._after.get(name, ""))

    def _find_first(self, conn: Connection, name: str, queues: Sequence[str], limit: int) -> list[str]:
        return find_first_limited(
            conn,
            name,
            types=self.leasing.types,
            queues=queues,
            after=self._after.get(name, ""),
            aside=self._refused.passed_over(),
            limit=limit,
        )

    def _lease_these(self, ids: Sequence[str], name: str, queues: Sequence[str], room: int) -> Sequence[Limited]:
        result = narrowed(ids, partial(self._lease, name, queues, room), blames=was_refused)
        unchanged = [(job_id, RowUnchanged()) for found in result.done for job_id in found.unchanged]
        self._refused.put_all([*result.refused, *unchanged])
        if result.left and not result.done:
            raise result.refused[-1].error
        return result.done

    def _try_again(self, names: Sequence[str], groups: Sequence[Group]) -> None:
        """Try jobs again whose wait is over; those for which there is no place take their turn like any other."""
        due = self._refused.due(TRIED_AGAIN_AT_ONCE)
        known = [*due, *self._refused.in_turn(TRIED_AGAIN_AT_ONCE)]
        if not known:
            return
        with self._database.connection() as conn:
            limits = find_limits_of(conn, known)
        for job_id in set(known).difference(limits):
            self._refused.forget(job_id)
        for name in set(names).intersection(limits.values()):
            ids = [job_id for job_id in due if limits.get(job_id) == name]
            for queues, most in groups:
                if (room := min(most(), BATCH)) > 0:
                    self._lease_these(ids, name, queues, room)
        self._refused.take_turn(set(limits).intersection(self._refused.due(TRIED_AGAIN_AT_ONCE)))
