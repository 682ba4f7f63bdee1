"""Extends every held lease in one statement, on a connection that handlers cannot take away."""

import time
from collections.abc import Callable, Sequence

from ayb_jobs import failpoints
from ayb_jobs.events import Emit, LeasesLost
from ayb_jobs.model.job import Lease
from ayb_jobs.runtime.aside import LONGEST_RETRY_S, Aside
from ayb_jobs.runtime.jobs.in_flight import Held, InFlight, leases_of
from ayb_jobs.runtime.narrowing import narrowed
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.faults import RowUnchanged, was_refused
from ayb_jobs.storage.queue.canceling import extend_canceled
from ayb_jobs.storage.queue.leases import Touched, extend_leases

# A lease is extended every third of it.
EXTEND_AT = 1 / 3
# How soon a lease is tried again whose row somebody else has locked.
LOCKED_S = 1.0


class LeaseKeeper:
    """Extends held leases in its `tick`, and tells handlers to stop whose lease is lost or whose job is to be canceled.

    If the database refuses to extend some, the others are extended all the same.
    """

    def __init__(
        self, *, database: Database, in_flight: InFlight, emit: Emit, lease_s: float, wake: Callable[[], None]
    ) -> None:
        self._database = database
        self._in_flight = in_flight
        self._emit = emit
        self._lease_s = lease_s
        self._turn_s = lease_s * EXTEND_AT
        self._aside = Aside(
            emit, part="lease keeper", table="_ayb_jobs", first_s=LOCKED_S, longest_s=min(self._turn_s, LONGEST_RETRY_S)
        )
        self._suspicious = False
        self._wake = wake

    def suspect(self) -> None:
        """Ask about every lease at once, since some may have been taken away."""
        self._suspicious = True
        self._wake()

    def tick(self) -> float:
        """Extend what was not extended for a quarter of a lease; return the seconds until the next turn."""
        began = time.monotonic()
        due, next_at = self._due(began)
        if not due:
            return min(next_at - began, self._aside.waits.next_s())
        result = narrowed(leases_of(due), self._extend, blames=was_refused)
        failpoints.reach(failpoints.EXTENDED)
        refused: dict[str, Exception] = {lease.lease_id: error for lease, error in result.refused}
        refused |= {lease_id: RowUnchanged() for kept in result.done for lease_id in kept.unchanged}
        refused |= {lease.lease_id: result.refused[-1].error for lease in result.left}
        done = {lease_id for kept in result.done for lease_id in kept.done}
        locked = {lease_id for kept in result.done for lease_id in kept.locked}
        canceling = {lease_id for kept in result.done for lease_id in kept.canceling}
        for held in due:
            if held.job.lease_id in canceling:
                self._in_flight.cancel(held)
            if held.job.lease_id in done:
                held.extended = began
                self._aside.forget(held.job.id)
        kept = {held.job.id: refused[held.job.lease_id] for held in due if held.job.lease_id in refused.keys() - done}
        self._aside.put_all(list(kept.items()))
        self._lose([held for held in due if held.job.lease_id not in done | locked | refused.keys()])
        next_s = max(0.0, next_at - time.monotonic())
        return min(LOCKED_S, next_s) if locked or refused else next_s

    def _extend(self, leases: Sequence[Lease]) -> Touched:
        with self._database.connection() as conn:
            touched = extend_leases(conn, leases, lease_s=self._lease_s)
            if not (gone := touched.others(leases)):
                return touched
            heard = extend_canceled(conn, gone, lease_s=self._lease_s)
        return Touched(
            done=touched.done | heard.done,
            locked=touched.locked | heard.locked,
            unchanged=touched.unchanged | heard.unchanged,
            canceling=heard.done | heard.locked | heard.unchanged,
        )

    def _due(self, now: float) -> tuple[list[Held], float]:
        """Return what is to be extended now, and when the next is to be, of whose lease a third is over then."""
        # Taken a little early rather than a whole turn late.
        age_s = 0.0 if self._suspicious else self._turn_s * 0.75
        self._suspicious = False
        kept = [held for held in self._in_flight.all() if not held.lost or held.never_begins]
        if len(self._aside.waits):
            self._aside.keep({held.job.id for held in kept})
        waiting = set(self._aside.ids())
        known = [held for held in kept if held.job.id not in waiting]
        young = [held.extended for held in known if now - held.extended < age_s]
        next_at = min([now, *young]) + self._turn_s
        return [held for held in known if now - held.extended >= age_s], next_at

    def _lose(self, missing: list[Held]) -> None:
        # What the completer has settled, or is about to settle, was not lost; if it was, settling tells.
        lost = [held for held in missing if self._in_flight.holds(held) and not held.ended]
        for held in lost:
            self._in_flight.lose(held)
        if lost:
            self._emit(LeasesLost(job_ids=[held.job.id for held in lost], during="extend"))
