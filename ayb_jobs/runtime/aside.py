"""Rows that a loop cannot handle: set aside, told, and tried again at growing intervals."""

import time
from dataclasses import dataclass

from ayb_jobs.events import Emit, RowSetAside

FIRST_RETRY_S = 60.0
LONGEST_RETRY_S = 3600.0
# A loop remembers so many; beyond them it forgets the oldest, which are then tried again sooner.
MOST = 10_000


@dataclass(slots=True)
class Waiting:
    """When a row is tried again, and how long the wait was."""

    retry_s: float
    at: float


class Aside:
    """The rows that one loop has set aside, by their ids. `part` and `table` name the loop and the table in the log."""

    def __init__(self, emit: Emit, *, part: str, table: str) -> None:
        self._emit = emit
        self._part = part
        self._table = table
        self._waiting: dict[str, Waiting] = {}

    def ids(self) -> list[str]:
        """Return the ids of the rows that are not to be tried yet."""
        now = time.monotonic()
        return [row_id for row_id, waiting in self._waiting.items() if waiting.at > now]

    def put(self, row_id: str, error: BaseException | str) -> None:
        """Set a row aside, for twice as long as the last time, and tell it."""
        before = self._waiting.pop(row_id, None)
        retry_s = FIRST_RETRY_S if before is None else min(2 * before.retry_s, LONGEST_RETRY_S)
        self._waiting[row_id] = Waiting(retry_s, time.monotonic() + retry_s)
        if len(self._waiting) > MOST:
            del self._waiting[next(iter(self._waiting))]
        self._emit(RowSetAside(part=self._part, table=self._table, row_id=row_id, error=str(error), retry_s=retry_s))

    def forget(self, row_id: str) -> None:
        """Forget a row that was handled after all."""
        self._waiting.pop(row_id, None)
