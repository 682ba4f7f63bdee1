"""Watches the limits, and confirms each once nothing can start here beside it."""

import time
from collections.abc import Callable, Sequence

from ayb_jobs.events import Emit
from ayb_jobs.runtime.aside import Aside
from ayb_jobs.runtime.jobs.in_flight import InFlight
from ayb_jobs.runtime.jobs.limits import Limits
from ayb_jobs.runtime.jobs.paused import Paused
from ayb_jobs.runtime.narrowing import Patience, narrowed
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.faults import RowUnchanged
from ayb_jobs.storage.fleet.limits import confirm_limits, watch_limits
from ayb_jobs.storage.queue.put_under import (
    Freed,
    find_left,
    find_running_beside,
    free_removed,
    put_under,
)

# It is woken: by a notification, or by the heartbeat, which finds that other limits stand than were confirmed, or that
# jobs wait under some that are no more. One that ran or failed under a limit that was removed may be queued again, and
# nobody says so.
FOR_EVER_S = 3600.0 * 24
# How soon it looks again for what keeps it from confirming.
CONFIRM_S = 0.05
# How often it looks whether jobs still wait under limits that were removed.
LEFT_S = 5.0
# A job that ran under a limit which has lost its type since may be queued again, and nobody says so.
LET_GO_S = 15.0
# How soon a job that the database did not let count is tried again.
FIRST_RETRY_S = 1.0


class LimitWatch:
    """Keeps `limits` and `paused` true in its `tick`, and confirms the limits.

    A daemon confirms once what it runs of limited types counts, and what it had leased of them and not started is given
    back. `on_change` is called if other types are limited than before.
    """

    def __init__(
        self,
        *,
        database: Database,
        worker_id: str,
        limits: Limits,
        paused: Paused,
        in_flight: InFlight,
        on_change: Callable[[], None],
        emit: Emit,
    ) -> None:
        self._database = database
        self._worker_id = worker_id
        self._limits = limits
        self._paused = paused
        self._in_flight = in_flight
        self._on_change = on_change
        self._aside = Aside(emit, part="limits", table="_ayb_jobs", first_s=FIRST_RETRY_S)
        self._patience = Patience()
        self._let_go_of = -1  # the newest limit when nothing was left to let go
        self._let_go_again = 0.0

    def tick(self) -> float:
        """Look once; return the seconds until the next look."""
        with self._database.connection(patient=True) as conn:
            seen = watch_limits(conn, worker_id=self._worker_id)
        self._limits.learn(exist=seen.any)
        if self._paused.limit(seen.types):
            self._on_change()
        confirmed = seen.confirmed == seen.newest or self._confirm(seen.newest)
        if seen.left and self._let_go(seen.newest):
            return 0.0
        if not confirmed:
            return CONFIRM_S
        if seen.left:
            return LET_GO_S
        return LEFT_S if seen.any and not seen.types else FOR_EVER_S

    def _confirm(self, newest: int) -> bool:
        held = self._in_flight.all()
        if any(not one.started and not one.lost and self._paused.is_beside_its_limit(one.job) for one in held):
            return False
        if self._left_beside():
            return False
        with self._database.connection(patient=True) as conn:
            confirm_limits(conn, worker_id=self._worker_id, newest=newest)
        return True

    def _left_beside(self) -> list[str]:
        """Have what runs of limited types count; return the jobs that do not: some rows are locked, or refused."""
        aside = set(self._aside.ids())
        beside = [job_id for job_id in self._running_beside() if job_id not in aside]
        written = narrowed(beside, self._put_under, blames=self._patience.blames)
        self._patience.begin_anew()
        kept = [(job_id, RowUnchanged()) for each in written.done for job_id in each]
        self._aside.put_all([*written.refused, *kept])
        return self._running_beside()

    def _let_go(self, newest: int) -> bool:
        """Let jobs go that wait under a limit which no longer has their type; tell whether there may be more."""
        if newest == self._let_go_of and time.monotonic() < self._let_go_again:
            return False
        with self._database.connection(patient=True) as conn:
            ids = find_left(conn, aside=self._aside.ids())
        freed = narrowed(ids, self._free, blames=self._patience.blames)
        kept = [(job_id, RowUnchanged()) for each in freed.done for job_id in each.kept]
        self._aside.put_all([*freed.refused, *kept])
        if any(each.jobs for each in freed.done):
            return True
        self._let_go_of, self._let_go_again = newest, time.monotonic() + LET_GO_S
        return False

    def _free(self, ids: Sequence[str]) -> Freed:
        with self._database.connection(patient=True) as conn:
            return free_removed(conn, ids)

    def _running_beside(self) -> list[str]:
        with self._database.connection(patient=True) as conn:
            return find_running_beside(conn, worker_id=self._worker_id)

    def _put_under(self, ids: Sequence[str]) -> list[str]:
        with self._database.connection(patient=True) as conn:
            return put_under(conn, ids)
