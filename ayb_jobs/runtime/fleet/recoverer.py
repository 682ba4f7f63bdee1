"""Returns jobs to the queue whose lease ran out, whichever daemon held it and whatever their type."""

import time

from ayb_jobs.events import Emit
from ayb_jobs.model.backoff import Backoff
from ayb_jobs.runtime.aside import Aside
from ayb_jobs.runtime.fleet.recovering import Recovering
from ayb_jobs.runtime.jobs.sweep import SweepClock
from ayb_jobs.runtime.unlogged import Unlogged
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.queue.recovery import Look, find_expired_leases

BATCH = 500
# A lease that runs out before the next turn is looked at as soon as it has; these bound how often and how seldom. One
# that a daemon with shorter leases gives is found within 5 s of its end all the same: the rest is for the statement
# itself.
SHORTEST_TURN_S = 0.25
LONGEST_TURN_S = 4.4
# Lets a lease that was seen to run out have run out for certain.
MARGIN_S = 0.02


class Recoverer:
    """Looks for expired leases in its `tick`: at start-up, when the next one runs out, and every four seconds or so.

    `lease_s` is how long the fleet's leases last: one that is given after a look is then never lost before the next.
    A job that cannot be recovered is set aside, and the others go on.
    """

    def __init__(
        self,
        *,
        database: Database,
        emit: Emit,
        backoff: Backoff,
        max_crashes: int,
        lease_s: float,
    ) -> None:
        self._turn_s = min(LONGEST_TURN_S, max(SHORTEST_TURN_S, lease_s))
        self._database = database
        self._aside = Aside(emit, part="recoverer", table="_ayb_jobs")
        self._recovering = Recovering(
            database=database,
            emit=emit,
            backoff=backoff,
            max_crashes=max_crashes,
            aside=self._aside,
            unlogged=Unlogged(emit),
        )
        self._floor = "-infinity"
        self._sweeps = SweepClock()

    def tick(self) -> float:
        """Recover one batch; return the seconds until the next look, 0 while there may be more."""
        found = self._look()
        handled = self._recovering.end(found.lost) if found.lost else 0
        if found.floor is not None:
            self._floor = found.floor
        is_full = len(found.lost) >= BATCH
        if not is_full:
            self._recovering.end_pass()
        return 0.0 if handled or is_full else self._until_next(found.next_s)

    def _until_next(self, next_s: float | None) -> float:
        return self._turn_s if next_s is None else min(self._turn_s, max(SHORTEST_TURN_S, next_s + MARGIN_S))

    def _look(self) -> Look:
        sweeping = self._sweeps.wait_s() == 0
        began = time.monotonic()
        with self._database.connection(patient=True) as conn:
            found = find_expired_leases(
                conn,
                limit=BATCH,
                floor="-infinity" if sweeping else self._floor,
                ahead_s=self._turn_s,
                aside=self._recovering.left_out(),
            )
        if sweeping:
            self._sweeps.swept(time.monotonic() - began)
        return found
