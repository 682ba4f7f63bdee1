"""Watches the limits, and confirms each once nothing can start here beside it."""

from collections.abc import Callable

from ayb_jobs.runtime.jobs.in_flight import InFlight
from ayb_jobs.runtime.jobs.limits import Limits
from ayb_jobs.runtime.jobs.paused import Paused
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.fleet.limits import confirm_limits, runs_unlimited, watch_limits
from ayb_jobs.storage.queue.limited import put_running_under

# It is woken: by a notification, or by the heartbeat, which finds that other limits stand than were confirmed.
FOR_EVER_S = 3600.0 * 24
# How soon it looks again for what keeps it from confirming.
CONFIRM_S = 0.05
# How often it looks whether jobs still wait under limits that were removed.
LEFT_S = 5.0


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
    ) -> None:
        self._database = database
        self._worker_id = worker_id
        self._limits = limits
        self._paused = paused
        self._in_flight = in_flight
        self._on_change = on_change

    def tick(self) -> float:
        """Look once; return the seconds until the next look."""
        with self._database.connection() as conn:
            seen = watch_limits(conn, worker_id=self._worker_id)
        self._limits.exist = seen.any
        if self._paused.limit(seen.types):
            self._on_change()
        if seen.confirmed != seen.newest and not self._confirm(seen.newest):
            return CONFIRM_S
        return LEFT_S if seen.any and not seen.types else FOR_EVER_S

    def _confirm(self, newest: int) -> bool:
        held = self._in_flight.all()
        if any(not one.started and not one.lost and self._paused.is_beside_its_limit(one.job) for one in held):
            return False
        with self._database.connection() as conn:
            put_running_under(conn, worker_id=self._worker_id)
            if runs_unlimited(conn, worker_id=self._worker_id):  # some rows are locked
                return False
            confirm_limits(conn, worker_id=self._worker_id, newest=newest)
        return True
