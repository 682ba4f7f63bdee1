"""Extends every held lease in one statement, on a connection that handlers cannot take away."""

import time

from ayb_jobs import failpoints
from ayb_jobs.events import Emit, LeasesLost
from ayb_jobs.runtime.jobs.in_flight import Held, InFlight, leases_of
from ayb_jobs.storage.database import Database
from ayb_jobs.storage.queue.leases import extend_leases

# A lease is extended every third of it.
EXTEND_AT = 1 / 3
# How soon a lease is tried again whose row somebody else has locked.
LOCKED_S = 1.0


class LeaseKeeper:
    """Extends held leases in its `tick`; handlers whose lease turns out to be lost are told to stop."""

    def __init__(self, *, database: Database, in_flight: InFlight, emit: Emit, lease_s: float) -> None:
        self._database = database
        self._in_flight = in_flight
        self._emit = emit
        self._lease_s = lease_s
        self._suspicious = False

    def suspect(self) -> None:
        """Have the next turn ask about every lease, since some may have been taken away."""
        self._suspicious = True

    def tick(self) -> float:
        """Extend what was not extended for a quarter of a lease; return the seconds until the next turn."""
        began = time.monotonic()
        due = self._due(began)
        if not due:
            return self._lease_s * EXTEND_AT
        with self._database.connection() as conn:
            kept = extend_leases(conn, leases_of(due), lease_s=self._lease_s)
        failpoints.reach(failpoints.EXTENDED)
        for held in due:
            if held.job.lease_id in kept.done:
                held.extended = began
        held_still = kept.done | kept.locked
        self._lose([held for held in due if held.job.lease_id not in held_still])
        return min(LOCKED_S, self._lease_s * EXTEND_AT) if kept.locked else self._lease_s * EXTEND_AT

    def _due(self, now: float) -> list[Held]:
        # Taken a little early rather than a whole turn late.
        age_s = 0.0 if self._suspicious else self._lease_s * EXTEND_AT * 0.75
        self._suspicious = False
        return [held for held in self._in_flight.all() if not held.lost and now - held.extended >= age_s]

    def _lose(self, missing: list[Held]) -> None:
        # What the completer settled meanwhile is not held any more, and was not lost.
        lost = [held for held in missing if self._in_flight.holds(held)]
        for held in lost:
            self._in_flight.lose(held)
        if lost:
            self._emit(LeasesLost(job_ids=[held.job.id for held in lost], during="extend"))
