"""Frees jobs of schedules that wait for an earlier one, if that has ended and nobody freed them."""

import time
from collections.abc import Sequence

from ayb_jobs.events import Emit
from ayb_jobs.runtime.aside import Aside
from ayb_jobs.runtime.chores.transactions import Transactions
from ayb_jobs.runtime.narrowing import Patience, narrowed
from ayb_jobs.storage.queue.successors import find_stranded, free_stranded

LOOK_S = 20.0
BATCH = 500


class Stranded:
    """Looks in `tick`, every twenty seconds at most. Jobs that the database refuses to free are set aside."""

    def __init__(self, database: Transactions, emit: Emit) -> None:
        self._database = database
        self._aside = Aside(emit, part="successors", table="_ayb_jobs")
        self._patience = Patience()
        self._next_look = 0.0

    def tick(self) -> None:
        """Free what is found, if it is time to look."""
        if time.monotonic() < self._next_look:
            return
        began = time.monotonic()
        with self._database.transaction() as conn:
            found = find_stranded(conn, limit=BATCH, aside=self._aside.ids())
        written = narrowed(found, self._free, blames=self._patience.blames)
        self._patience.begin_anew()
        self._aside.put_all(written.refused)
        if not written.left:
            self._next_look = began + LOOK_S

    def _free(self, ids: Sequence[str]) -> int:
        with self._database.transaction() as conn:
            return free_stranded(conn, ids)
