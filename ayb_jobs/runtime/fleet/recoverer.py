"""Returns jobs to the queue whose worker lost them, whichever daemon that was and whatever their type."""

import time
from collections.abc import Callable

from ayb_jobs import failpoints
from ayb_jobs.events import JobRecovered
from ayb_jobs.model.backoff import Backoff
from ayb_jobs.runtime.jobs.sweep import SweepClock
from ayb_jobs.storage.database import Connection, Database
from ayb_jobs.storage.queue.recovery import Recovery, recover_jobs

BATCH = 500
# A lease that runs out before the next turn is looked at as soon as it has; these bound how often and how seldom. One
# that a daemon with shorter leases gives is found within 5 s of its end all the same: the rest is for the statement itself.
SHORTEST_TURN_S = 0.25
LONGEST_TURN_S = 4.4
# Lets a lease that was seen to run out have run out for certain.
MARGIN_S = 0.02


class Recoverer:
    """Looks for expired leases in its `tick`: at start-up, when the next one runs out, and every four seconds or so.

    `lease_s` is how long the fleet's leases last: one that is given after a look is then never lost before the next.
    `beside` is done in the same transaction, where nothing was found: an idle daemon should cost a database next to
    nothing, and whatever goes wrong there must not undo a recovery.
    """

    def __init__(
        self,
        *,
        database: Database,
        emit: Callable[[object], None],
        backoff: Backoff,
        max_crashes: int,
        lease_s: float,
        beside: Callable[[Connection], None] = lambda _conn: None,
    ) -> None:
        self._turn_s = min(LONGEST_TURN_S, max(SHORTEST_TURN_S, lease_s))
        self._database = database
        self._emit = emit
        self._backoff = backoff
        self._max_crashes = max_crashes
        self._beside = beside
        self._floor = "-infinity"
        self._sweeps = SweepClock()

    def tick(self) -> float:
        """Recover one batch; return the seconds until the next look, 0 while there may be more."""
        with self._database.transaction() as conn:
            found = self._recover(conn)
            if not found.jobs:
                self._beside(conn)
        if found.jobs:
            failpoints.reach(failpoints.RECOVERED)
        if found.floor is not None:
            self._floor = found.floor
        for job in found.jobs:
            self._emit(JobRecovered(job=job))
        return 0.0 if found.jobs else self._until_next(found.next_s)

    def _until_next(self, next_s: float | None) -> float:
        return self._turn_s if next_s is None else min(self._turn_s, max(SHORTEST_TURN_S, next_s + MARGIN_S))

    def _recover(self, conn: Connection) -> Recovery:
        sweeping = self._sweeps.wait_s() == 0
        began = time.monotonic()
        found = recover_jobs(
            conn,
            limit=BATCH,
            max_crashes=self._max_crashes,
            backoff=self._backoff,
            floor="-infinity" if sweeping else self._floor,
            ahead_s=self._turn_s,
        )
        if sweeping:
            self._sweeps.swept(time.monotonic() - began)
        return found
