"""Leasing although the database refuses some jobs: these are set aside, and the others go on.

A trigger of the application's may raise an error for a row, return NULL or put the row back as it was. The producer
comes here if its usual statement fails, to try jobs that are set aside again, and now and then to find what was passed
over without an error.
"""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ayb_jobs.events import Emit
from ayb_jobs.model.job import LeasedJob
from ayb_jobs.runtime.aside import Aside
from ayb_jobs.runtime.jobs.leasing import Leasing
from ayb_jobs.runtime.jobs.releaser import Releaser
from ayb_jobs.runtime.narrowing import narrowed
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.faults import RowUnchanged, may_pass, was_refused
from ayb_jobs.storage.queue.chosen import Chosen, lease_chosen
from ayb_jobs.storage.queue.lanes import ANY_NUMBER, Lane
from ayb_jobs.storage.queue.put_under import put_under
from ayb_jobs.storage.queue.turns import find_due
from ayb_jobs.storage.queue.unleasable import find_unleasable

FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 60.0
# How often an idle queue is searched for due jobs that leasing passes over.
CHECK_S = 10.0
# For so long a turn goes on behind jobs that are refused; the next one comes at once, after the other executors' looks.
LONGEST_TURN_S = 0.25
# So many due jobs are looked at in one statement, until enough of them are found that can be leased.
FOUND_AT_ONCE = 500
# So many are tried again before the others have their turn.
TRIED_AGAIN_AT_ONCE = 16


class Leased(NamedTuple):
    """How many jobs were leased, and whether others were refused for a reason that may pass by itself."""

    rows: int
    may_pass: bool


class CarefulLeasing:
    """Leases jobs by their ids, in halves if the database refuses some. `take` gets each leased batch at once.

    `unfinished` tells whether jobs were refused in the last turn, so that others may wait behind them.
    """

    def __init__(
        self,
        *,
        database: Database,
        leasing: Leasing,
        releaser: Releaser,
        emit: Emit,
        take: Callable[[Sequence[LeasedJob], float], None],
    ) -> None:
        self._database = database
        self.leasing = leasing
        self._releaser = releaser
        self._take = take
        self._aside = Aside(emit, part="producer", table="_ayb_jobs", first_s=FIRST_RETRY_S, longest_s=LONGEST_RETRY_S)
        self._check_at = time.monotonic() + CHECK_S
        self.unfinished = False

    def aside(self) -> list[str]:
        """Return the ids of the jobs that the usual statement is to pass over."""
        return self._aside.waits.all()

    def next_s(self, pause_s: float) -> float:
        """Return the seconds until the next turn: `pause_s`, or fewer if a job is to be tried again sooner."""
        return min(pause_s, self._aside.waits.next_s()) if len(self._aside.waits) else pause_s

    def refuse(self, job_ids: Sequence[str]) -> None:
        """Set jobs aside that a trigger kept from being leased, without an error."""
        self._aside.put_all([(job_id, RowUnchanged()) for job_id in job_ids])

    def try_again(self, limit: int) -> int:
        """Try jobs again whose wait is over; return how many were leased. However many are refused, others go on."""
        due = self._aside.waits.due()[: min(limit, TRIED_AGAIN_AT_ONCE)] if len(self._aside.waits) else ()
        return self._leased_of(due).rows if due else 0

    def check(self, lanes: Sequence[Lane], limit: int) -> int:
        """Lease what the usual statement passed over on an idle queue, if it is time to look; return how many.

        If something was passed over, more may lie behind it, and the next turn looks again.
        """
        if not self.unfinished and time.monotonic() < self._check_at:
            return 0
        leased = self.lease(lanes, limit)
        if leased == 0 and not self.unfinished:
            self._check_at = time.monotonic() + CHECK_S
        return leased

    def lease(self, lanes: Sequence[Lane], limit: int) -> int:
        """Lease up to `limit` due jobs of these lanes, behind those that are refused; return how many.

        It ends with the first that are leased, or if the turn gets long, or if what refused them may pass by itself.
        """
        late, before = time.monotonic() + LONGEST_TURN_S, len(self._aside.waits)
        while True:
            known = len(self._aside.waits)
            leased = self._leased_of(self._find_leasable(lanes, limit))
            ends = leased.rows or leased.may_pass or len(self._aside.waits) == known
            if ends or time.monotonic() >= late:
                break
        self.unfinished = len(self._aside.waits) > before and not leased.may_pass
        return leased.rows

    def _find_leasable(self, lanes: Sequence[Lane], limit: int) -> Sequence[str]:
        """Return the first due jobs, without those that are refused for good: these are set aside."""
        with self._database.connection() as conn:
            most = max(limit, FOUND_AT_ONCE)
            ids = find_due(conn, lanes=lanes, types=self.leasing.types, limit=most, aside=self.aside())
            refused = find_unleasable(
                conn, ids, worker_id=self.leasing.worker_id, lease_s=self.leasing.lease_s, enough=limit
            )
        self._aside.put_all(refused)
        unleasable = {each.job_id for each in refused}
        return [job_id for job_id in ids if job_id not in unleasable][:limit]

    def _leased_of(self, ids: Sequence[str]) -> Leased:
        """Lease those of these jobs that can be leased. Raises the database's error if it takes none and may pass."""
        leased = narrowed(ids, self._lease_chosen, blames=was_refused)
        unchanged = [job_id for chosen in leased.done for job_id in chosen.unchanged]
        self._aside.put_all([*leased.refused, *((job_id, RowUnchanged()) for job_id in unchanged)])
        rows = sum(len(chosen.leased) for chosen in leased.done)
        passing = [refused.error for refused in leased.refused if may_pass(refused.error)]
        if passing and leased.left and not rows:
            raise passing[-1]
        return Leased(rows, may_pass=bool(passing))

    def _lease_chosen(self, ids: Sequence[str]) -> Chosen:
        sent = time.monotonic()
        rooms = self.leasing.slots.free()
        with self._releaser.answer_expected(), self._database.connection() as conn:
            kept = put_under(conn, ids) if self.leasing.limits.exist else []
            chosen = lease_chosen(
                conn,
                ids,
                worker_id=self.leasing.worker_id,
                rooms={queue: rooms.get(queue, ANY_NUMBER) for queue in self.leasing.queues},
                types=self.leasing.types,
                lease_s=self.leasing.lease_s,
            )
        chosen.unchanged.extend(kept)
        for job_id in set(ids).difference(chosen.unchanged):
            self._aside.forget(job_id)
        if chosen.leased:
            self._take(chosen.leased, sent)
        return chosen
