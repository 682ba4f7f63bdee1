"""Watches the pauses, and confirms each once nothing of it can start here any more."""

from collections.abc import Callable
from functools import partial

from ayb_jobs.model.lifecycle import storable_error
from ayb_jobs.model.pauses import MAX_REASON, NewPause, PauseKind
from ayb_jobs.operations import queues
from ayb_jobs.operations.acting import Actor
from ayb_jobs.runtime.each import do_each
from ayb_jobs.runtime.jobs.in_flight import InFlight
from ayb_jobs.runtime.jobs.paused import Paused
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.fleet.pauses import Watched, confirm_pauses, find_pause, watch_pauses

# It is woken: by a notification, or by the heartbeat, which finds that other pauses stand than were confirmed.
FOR_EVER_S = 3600.0 * 24
# How soon it looks again for jobs that are to be released before a pause is confirmed.
CONFIRM_S = 0.05


class PauseWatch:
    """Keeps `paused` true in its `tick`, and confirms a pause once nothing of it can start here any more.

    It pauses the types that jobs asked to pause. `on_change` is called when something else is paused than before: what
    waits is released, and what no longer is paused is looked for from the bottom of its queue.
    """

    def __init__(
        self, *, database: Database, worker_id: str, paused: Paused, in_flight: InFlight, on_change: Callable[[], None]
    ) -> None:
        self._database = database
        self._worker_id = worker_id
        self._paused = paused
        self._in_flight = in_flight
        self._on_change = on_change

    def tick(self) -> float:
        """Pause what is asked for and look once; return the seconds until the next look.

        What cannot be paused keeps no other pause from being obeyed and confirmed.
        """
        _, next_s = do_each([self._pause_asked, self._look])
        return next_s

    def _look(self) -> float:
        with self._database.connection(patient=True) as conn:
            seen = watch_pauses(conn, worker_id=self._worker_id)
        if self._paused.become(seen.queues, seen.types, seen.keys, seen.leases):
            self._on_change()
        if seen.confirmed != seen.newest:
            if self._may_start(seen.leases):
                return CONFIRM_S
            with self._database.connection(patient=True) as conn:
                confirm_pauses(conn, worker_id=self._worker_id, newest=seen.newest)
        return self._next_s(seen)

    def _pause_asked(self) -> float:
        """Pause the types that jobs asked to pause, but for those that are paused already."""
        do_each(partial(self._pause_one, *asked) for asked in tuple(self._paused.asked))
        return 0.0

    def _pause_one(self, name: str, reason: str) -> None:
        new = NewPause(kind=PauseKind.TYPE, name=name, reason=storable_error(reason)[:MAX_REASON])
        with self._database.connection(patient=True) as conn:
            if find_pause(conn, queue="", type=name) is None:
                queues.pause(conn, new, actor=Actor(name=f"daemon {self._worker_id}"))
        self._paused.asked.remove((name, reason))

    def _may_start(self, leases: frozenset[str]) -> bool:
        """Tell whether any job of what is paused is held, or on its way here, whose handler has not begun."""
        held = self._in_flight.all()
        if not leases <= {one.job.lease_id for one in held}:
            return True
        return any(not one.started and not one.lost and self._paused.holds(one.job) for one in held)

    @staticmethod
    def _next_s(seen: Watched) -> float:
        return FOR_EVER_S if seen.ends_s is None else min(FOR_EVER_S, max(seen.ends_s, CONFIRM_S))
