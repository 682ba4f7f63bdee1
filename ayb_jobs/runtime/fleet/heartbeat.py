"""Says that this daemon is alive, tells which due jobs wait although it cannot run them, and forgets the silent."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from ayb_jobs.events import Emit, JobsUnclaimable
from ayb_jobs.model.daemons import DaemonRecord
from ayb_jobs.runtime.aside import Aside
from ayb_jobs.runtime.fleet.forgetting import forget_each
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.faults import is_outage
from ayb_jobs.storage.fleet.daemons import Heard, Troubles, beat, find_silent, forget_daemons
from ayb_jobs.storage.fleet.unclaimable import count_unclaimable
from ayb_jobs.storage.table_locks import TableLocked

BEAT_S = 20.0
# As long as troubles are told of: whoever asks is soon to hear that they are over.
HURRIED_BEAT_S = 2.0
LOOK_S = 60.0
# A look that fails may take long to do so, and is no reason to beat late.
LOOK_AGAIN_S = 5.0


class Heartbeat:
    """Keeps the daemon's row fresh in its `tick`, whatever becomes of the other loops.

    `on_pauses` is called if the pauses are not those of the last beat, or not those that the daemon confirmed,
    and `on_limits` likewise, or if jobs wait under limits that are no more. `on_drain` is called with each beat once
    the daemon is asked to drain, until it does.
    `set_aside` returns the rows that it has set aside, by table and id with the errors, and `find_stuck` the names of
    the loops that make no progress, and `count_stuck` how many slots, and asynchronous ones, are held by handlers that
    did not stop when told. `on_edges` and `on_batches` are called while jobs wait for others, or sealed
    batches for their members: those may have come without a notification. These four may be set at any time.
    """

    def __init__(
        self,
        *,
        database: Database,
        daemon: DaemonRecord,
        emit: Emit,
        on_pauses: Callable[[], None] = lambda: None,
        on_limits: Callable[[], None] = lambda: None,
        on_drain: Callable[[], None] = lambda: None,
        set_aside: Callable[[], Mapping[str, Mapping[str, str]]] = dict,
    ) -> None:
        self.find_stuck: Callable[[], Sequence[str]] = tuple
        self.count_stuck: Callable[[], tuple[int, int]] = lambda: (0, 0)
        self.on_edges: Callable[[], None] = lambda: None
        self.on_batches: Callable[[], None] = lambda: None
        self._set_aside = set_aside
        self._on_pauses = on_pauses
        self._on_limits = on_limits
        self._on_drain = on_drain
        self._pauses = 0
        self._limits = 0
        self._database = database
        self._daemon = daemon
        self._emit = emit
        self._kept = Aside(emit, part="heartbeat", table="_ayb_job_workers")
        self._next_look = 0.0
        self._is_known = False
        self._announced: Heard | None = None
        self._told_troubles = False
        self._look_failure: Exception | None = None

    def describe(self, daemon: DaemonRecord) -> None:
        """Tell this of the daemon from the next beat on."""
        self._daemon = daemon

    def drain(self) -> None:
        """Tell that the daemon drains from the next beat on."""
        self._daemon = replace(self._daemon, drains=True)

    def announce(self) -> None:
        """Write the daemon's row unless it was written, before anything is leased.

        A pause or a limit is in force once each daemon that has a row has confirmed it. If the database refuses the
        row, work goes on without it, and each beat fails.
        """
        if self._is_known:
            return
        try:
            self._announced = self._beat()
        except Exception as error:
            if is_outage(error) and not isinstance(error, TableLocked):
                raise

    def tick(self) -> float:
        """Beat, and look round once a minute; return the seconds until the next beat.

        The first beat was the announcement.
        """
        heard, self._announced = self._announced or self._beat(), None
        if heard.drains and not self._daemon.drains:
            self._on_drain()
        if not heard.confirmed or heard.total != self._pauses:
            self._on_pauses()
        if not heard.limits_confirmed or heard.limits != self._limits or heard.left_under:
            self._on_limits()
        if heard.edges:
            self.on_edges()
        if heard.batches:
            self.on_batches()
        self._pauses, self._limits = heard.total, heard.limits
        self._look_in_time()
        return HURRIED_BEAT_S if self._told_troubles else BEAT_S

    def _beat(self) -> Heard:
        with self._database.connection(patient=True) as conn:
            troubles = Troubles(self._set_aside(), self.find_stuck(), *self.count_stuck())
            heard = beat(conn, self._daemon, troubles)
        self._is_known, self._told_troubles = True, any(troubles)
        return heard

    def forget(self) -> None:
        """Remove the daemon's row, if there is one."""
        if not self._is_known:
            return
        with self._database.connection(patient=True) as conn:
            forget_daemons(conn, [self._daemon.id])

    def _look_in_time(self) -> None:
        """Look round once a minute. From a look that fails until one succeeds every turn fails, behind its beat."""
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + LOOK_AGAIN_S
            try:
                self._look()
            except Exception as error:
                self._look_failure = error
            else:
                self._next_look = time.monotonic() + LOOK_S
                self._look_failure = None
        if self._look_failure is not None:
            raise self._look_failure.with_traceback(None)

    def _look(self) -> None:
        """Tell which jobs are unclaimable, and forget daemons that have been silent for a day."""
        with self._database.connection(patient=True) as conn:
            silent = find_silent(conn, aside=self._kept.ids())
            found = count_unclaimable(conn, types=self._daemon.types, queues=self._daemon.queues)
        self._emit(JobsUnclaimable(counts=found.types, queues=found.queues))
        forget_each(self._database, silent, self._kept)
