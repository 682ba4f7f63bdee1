"""Says that this daemon is alive, and tells which due jobs wait although it cannot run them."""

import time

from ayb_jobs.events import Emit, JobsUnclaimable
from ayb_jobs.model.daemons import Worker
from ayb_jobs.storage.database import Connection, Database
from ayb_jobs.storage.fleet.daemons import beat, forget_worker
from ayb_jobs.storage.fleet.unclaimable import count_unclaimable

BEAT_S = 20.0
LOOK_S = 60.0


class Heartbeat:
    """Keeps the daemon's row fresh in its `tick`, whatever becomes of the other loops."""

    def __init__(self, *, database: Database, worker: Worker, emit: Emit) -> None:
        self._database = database
        self._worker = worker
        self._emit = emit
        self._next_look = 0.0
        self._is_known = False

    def tick(self) -> float:
        """Beat, and look for unclaimable jobs once a minute; return the seconds until the next beat."""
        failure: Exception | None = None
        with self._database.connection() as conn:
            beat(conn, self._worker)
            self._is_known = True
            try:
                self._look(conn)
            except Exception as error:  # noqa: BLE001 - raised below, once the beat stands
                failure = error
        if failure is not None:
            raise failure
        return BEAT_S

    def forget(self) -> None:
        """Remove the daemon's row, if there is one."""
        if not self._is_known:
            return
        with self._database.connection() as conn:
            forget_worker(conn, self._worker.id)

    def _look(self, conn: Connection) -> None:
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + LOOK_S  # a look that fails comes again in a minute
        with conn.transaction():
            found = count_unclaimable(conn, types=self._worker.types, queues=self._worker.queues)
        self._emit(JobsUnclaimable(counts=found.types, queues=found.queues))
