"""Tells handlers to stop: those past their timeout, and those whose lease may run out before it can be extended.

It touches no database, so that it keeps time while the database does not answer.
"""

import time
from collections.abc import Callable

from ayb_jobs.config.tables import STOPPING_S
from ayb_jobs.events import Emit, Event, JobOverran, JobsLeased, LeasesLost
from ayb_jobs.model.backoff import Backoff
from ayb_jobs.model.lifecycle import Outcome, Settlement, settle_failure
from ayb_jobs.runtime.jobs.in_flight import Held, InFlight

# Beyond two thirds of a lease another daemon may soon start the job.
GIVE_UP_AT = 2 / 3
TURN_S = 0.5
# While no job is held it rests, until it hears that some were leased.
FOR_EVER_S = 3600.0 * 24


class Watchdog:
    """Looks at every held job in its `tick`.

    Subscribe `hear` to the events: it calls `wake` when the first jobs are held after a rest. `stopping_s` tells how
    long a handler of a job type may take to end once it was told to stop.
    """

    def __init__(
        self,
        *,
        in_flight: InFlight,
        settle: Callable[[Held, Settlement], None],
        emit: Emit,
        backoff: Backoff,
        chance: Callable[[], float],
        lease_s: float,
        stopping_s: Callable[[str], float] = lambda _: STOPPING_S,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self._in_flight = in_flight
        self._settle = settle
        self._emit = emit
        self._backoff = backoff
        self._chance = chance
        self._lease_s = lease_s
        self._stopping_s = stopping_s
        self._wake = wake
        self._rests = False

    def hear(self, event: Event) -> None:
        """Look again from now on if jobs were leased."""
        if self._rests and isinstance(event, JobsLeased):
            self._rests = False
            self._wake()

    def tick(self) -> float:
        """Look once; return the seconds until the next look."""
        self._rests = True  # before it looks: what is leased from here on is heard of
        now = time.monotonic()
        held_jobs = self._in_flight.all()
        if not held_jobs:
            return FOR_EVER_S
        self._rests = False
        for held in held_jobs:
            if held.ended or held.handed_over:
                continue  # however long its ending waits for the database, it did not overrun; writing tells of its lease
            if not held.lost and now - held.extended >= self._lease_s * GIVE_UP_AT:
                self._in_flight.lose(held)
                self._emit(LeasesLost(job_ids=[held.job.id], during="watch"))
            deadline = None if held.context is None else held.context.deadline
            if deadline is not None and now >= deadline:
                self._overran(held, now, deadline)
        return min(TURN_S, self._lease_s / 12)

    def _overran(self, held: Held, now: float, deadline: float) -> None:
        timeout_s = deadline - held.started
        if held.context is not None and held.context.stop_reason is None:
            held.context.stop("timeout")
            self._emit(JobOverran(job=held.job, timeout_s=timeout_s, abandoned=False))
        elif not held.abandoned:
            stopping_s = self._stopping_s(held.job.type)
            if now >= deadline + stopping_s:
                self._abandon(held, now, timeout_s, stopping_s)

    def _abandon(self, held: Held, now: float, timeout_s: float, stopping_s: float) -> None:
        """Settle the attempt although its handler runs on: a thread cannot be ended, but its job can go on."""
        held.abandoned = True
        self._emit(JobOverran(job=held.job, timeout_s=timeout_s, abandoned=True))
        error = f"timed out after {timeout_s:g} s, and the handler did not stop within {stopping_s:g} s of being told"
        self._settle(
            held,
            settle_failure(
                held.job,
                error,
                held.started,
                now,
                backoff=self._backoff,
                chance=self._chance(),
                outcome=Outcome.TIMED_OUT,
                records=None if held.context is None else held.context.records_processed,
            ),
        )
