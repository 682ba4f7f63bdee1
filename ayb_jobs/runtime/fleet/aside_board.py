"""What this daemon has set aside, for its row: whoever asks why such a job waits finds it there."""

import math
import threading
import time
from collections.abc import Callable, Mapping
from itertools import islice

from ayb_jobs.events import Event, RowsSetAside
from ayb_jobs.model.lifecycle import storable_error

# So many jobs are told of; the others are in the log.
MOST = 100
MOST_ERROR = 500
# A row that is tried again and refused is told anew. One that is not, a while after it was due, was handled.
GRACE_S = 60.0


class AsideBoard:
    """Keeps the jobs that loops of this daemon have set aside, with the errors, until they are handled.

    `ring` is called if there are new ones, at most once in a second.
    """

    def __init__(self, *, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._rung_at = -math.inf
        self._lock = threading.Lock()
        self._rows: dict[str, tuple[float, str]] = {}

    def hear(self, event: Event) -> None:
        """Note what was set aside."""
        if isinstance(event, RowsSetAside) and event.table == "_ayb_jobs":
            until, error = time.monotonic() + event.retry_s + GRACE_S, storable_error(event.error)[:MOST_ERROR]
            with self._lock:
                is_new = not self._rows.keys() >= set(event.row_ids)
                self._rows |= dict.fromkeys(islice(event.row_ids, MOST), (until, error))

            self._tell(is_new=is_new)

    def _tell(self, *, is_new: bool) -> None:
        now = time.monotonic()
        if is_new and now >= self._rung_at + 1:
            self._rung_at = now
            self._ring()

    def rows(self) -> Mapping[str, str]:
        """Return up to 100 jobs that are set aside now, with the errors."""
        now = time.monotonic()
        with self._lock:
            self._rows = {row_id: row for row_id, row in self._rows.items() if row[0] > now}
            return {row_id: error for row_id, (_, error) in islice(reversed(self._rows.items()), MOST)}
