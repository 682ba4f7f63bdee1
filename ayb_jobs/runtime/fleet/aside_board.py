"""What this daemon has set aside, for its row: whoever asks how things stand, or why a job waits, finds it there."""

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import islice

from ayb_jobs.events import (
    Event,
    ExecutionsDropped,
    RemovalRefused,
    RowsPrunable,
    RowsSetAside,
    RowsTakenUp,
    RowsUnprunable,
    SettlementRefused,
    SettlementsTakenUp,
)
from ayb_jobs.model.daemons import ENDINGS, MOST_ASIDE, OLD_ROWS
from ayb_jobs.model.lifecycle import storable_error

MOST_ERROR = 500
# A row that is tried again and refused is told anew. One that is not, a while after it was due, is gone.
GRACE_S = 60.0
# So many rows of a table are known, as many as a loop remembers.
MOST = 10_000
# What is told once a minute for as long as it goes on.
FOR_A_MINUTE_S = 60.0


class AsideBoard:
    """Keeps the rows that loops of this daemon have set aside, by table, with the errors, until they are handled.

    `ring` is called if there are new ones, at most once in a second, and if there are none any more.
    """

    def __init__(self, *, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._rung_at = -math.inf
        self._lock = threading.Lock()
        self._tables: dict[str, dict[str, tuple[float, str]]] = {}

    def hear(self, event: Event) -> None:
        """Note what was set aside, and what was handled after all."""
        match event:
            case RowsSetAside():
                self._add(event.table, event.row_ids, event.error, event.retry_s)
            case SettlementRefused():
                self._add(ENDINGS, [event.job.id], str(event.error), event.retry_s)
            case RowsTakenUp():
                self._remove(event.table, event.row_ids)
            case SettlementsTakenUp():
                self._remove(ENDINGS, event.job_ids)
            case RowsUnprunable():
                self._add(OLD_ROWS, [event.table], str(event.error), math.inf)
            case RowsPrunable():
                self._remove(OLD_ROWS, [event.table])
            case RemovalRefused():
                self._add(OLD_ROWS, ["completed jobs"], str(event.error), FOR_A_MINUTE_S)
            case ExecutionsDropped():
                self._add("_ayb_job_executions", [event.job_id], "a trigger dropped the row", FOR_A_MINUTE_S)
            case _:
                pass

    def _add(self, table: str, row_ids: Sequence[str], error: str, retry_s: float) -> None:
        row = time.monotonic() + retry_s + GRACE_S, storable_error(error)[:MOST_ERROR]
        with self._lock:
            rows = self._tables.setdefault(table, {})
            is_new = not rows.keys() >= set(row_ids)
            for row_id in islice(row_ids, MOST):
                rows.pop(row_id, None)
                rows[row_id] = row
            for row_id in list(islice(rows, max(0, len(rows) - MOST))):
                del rows[row_id]
        if is_new and time.monotonic() >= self._rung_at + 1:
            self._rung_at = time.monotonic()
            self._ring()

    def _remove(self, table: str, row_ids: Sequence[str]) -> None:
        with self._lock:
            rows = self._tables.get(table, {})
            before = len(rows)
            for row_id in row_ids:
                rows.pop(row_id, None)
            is_over = bool(before) and not rows
        if is_over:
            self._ring()

    def rows(self) -> Mapping[str, Mapping[str, str]]:
        """Return the rows that are set aside now, with the errors, by table: up to 100 of each, the newest first.

        A hundred of a table may be more; fewer are all, unless more than 10,000 were set aside.

        Jobs of which an ending is refused stand under `ENDINGS`, tables of which no row is removed under `OLD_ROWS`.
        """
        now = time.monotonic()
        with self._lock:
            for table, rows in list(self._tables.items()):
                self._tables[table] = {row_id: row for row_id, row in rows.items() if row[0] > now}
            return {
                table: {row_id: error for row_id, (_, error) in islice(reversed(rows.items()), MOST_ASIDE)}
                for table, rows in self._tables.items()
                if rows
            }
