"""Says that this daemon is alive, and tells which due jobs wait although it cannot run them."""

import time
from collections.abc import Callable

from ayb_jobs.events import JobsUnclaimable
from ayb_jobs.storage.database import Connection, Database
from ayb_jobs.storage.fleet.daemons import Worker, beat, forget_worker
from ayb_jobs.storage.fleet.unclaimable import count_unclaimable

BEAT_S = 20.0
LOOK_S = 60.0


class Heartbeat:
    """Keeps the daemon's row fresh whenever it is lent a connection, `turn`, which must come every few seconds."""

    def __init__(self, *, database: Database, worker: Worker, emit: Callable[[object], None]) -> None:
        self._database = database
        self._worker = worker
        self._emit = emit
        self._next_beat = 0.0
        self._next_look = 0.0
        self._is_known = False

    def turn(self, conn: Connection) -> None:
        """Beat every 20 s, and look for unclaimable jobs once a minute."""
        now = time.monotonic()
        if now >= self._next_look:
            # Noted first, and before the beat, which shares its transaction: a look that fails comes again in a minute, and
            # keeps neither the row from being written nor lost leases from being looked for until then.
            self._next_look = now + LOOK_S
            counts = count_unclaimable(conn, types=self._worker.types, queues=self._worker.queues)
            self._emit(JobsUnclaimable(counts=counts))
        if now >= self._next_beat:
            beat(conn, self._worker)
            self._is_known = True
            self._next_beat = now + BEAT_S

    def forget(self) -> None:
        """Remove the daemon's row, where there is one."""
        if not self._is_known:
            return
        with self._database.connection() as conn:
            forget_worker(conn, self._worker.id)
