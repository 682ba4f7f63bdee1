"""Rows that a loop cannot handle: set aside, told, and tried again at growing intervals."""

import math
import time
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import islice

from ayb_jobs.events import AsideFull, Emit, RowsSetAside, RowsTakenUp
from ayb_jobs.storage.faults import may_pass

FIRST_RETRY_S = 15.0
# Whoever has mended what kept a row back must not wait for long.
LONGEST_RETRY_S = 60.0
# What keeps a row back may pass by itself: a full disk, a standby.
FIRST_RETRY_IF_PASSING_S = 1.0
# A loop remembers so many; beyond them it forgets the oldest, which are then tried again sooner, and says so.
MOST = 10_000
FULL_AGAIN_S = 3600.0


@dataclass(slots=True)
class Waiting:
    """When a row is tried again, and how long the wait was."""

    retry_s: float
    at: float


class Waits:
    """Growing waits, by the ids of rows. A row's wait is twice as long each time, up to `longest_s`."""

    def __init__(self, *, first_s: float = FIRST_RETRY_S, longest_s: float = LONGEST_RETRY_S) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._waiting: dict[str, Waiting] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, row_id: str, *, may_pass: bool = False) -> float:
        """Have a row wait, for twice as long as the last time, and not long at first if the cause may pass.

        Returns the seconds.
        """
        before = self._waiting.pop(row_id, None)
        first_s = min(self._first_s, FIRST_RETRY_IF_PASSING_S) if may_pass else self._first_s
        retry_s = first_s if before is None else min(2 * before.retry_s, self._longest_s)
        self._waiting[row_id] = Waiting(retry_s, time.monotonic() + retry_s)
        return retry_s

    def all(self) -> list[str]:
        """Return every row that has not been forgotten, due or not."""
        return list(self._waiting)

    def ids(self) -> list[str]:
        """Return the rows that are not to be tried yet."""
        now = time.monotonic()
        return [row_id for row_id, waiting in self._waiting.items() if waiting.at > now]

    def due(self) -> list[str]:
        """Return the rows whose wait is over."""
        now = time.monotonic()
        return [row_id for row_id, waiting in self._waiting.items() if waiting.at <= now]

    def next_s(self) -> float:
        """Return the seconds until the next wait is over; infinity if none waits."""
        earliest = min((waiting.at for waiting in self._waiting.values()), default=math.inf)
        return max(0.0, earliest - time.monotonic())

    def end_all(self) -> None:
        """End every wait now. Any thread may call it."""
        for waiting in list(self._waiting.values()):
            waiting.at = 0.0

    def forget(self, row_id: str) -> bool:
        """Forget a row that was handled after all; tell whether it waited."""
        return self._waiting.pop(row_id, None) is not None

    def keep(self, row_ids: AbstractSet[str]) -> list[str]:
        """Forget every row but these; return the others."""
        others = list(self._waiting.keys() - row_ids)
        for row_id in others:
            del self._waiting[row_id]
        return others

    def forget_oldest(self, most: int) -> int:
        """Forget the rows that wait longest, so that `most` are left; return how many were forgotten."""
        too_many = max(0, len(self._waiting) - most)
        for row_id in list(islice(self._waiting, too_many)):
            del self._waiting[row_id]
        return too_many


class Aside:
    """The rows that one loop has set aside, by their ids. `part` and `table` name the loop and the table in the log."""

    def __init__(
        self,
        emit: Emit,
        *,
        part: str,
        table: str,
        first_s: float = FIRST_RETRY_S,
        longest_s: float = LONGEST_RETRY_S,
    ) -> None:
        self._emit = emit
        self._part = part
        self._table = table
        self.waits = Waits(first_s=first_s, longest_s=longest_s)
        self._full_again_at = 0.0

    def ids(self) -> list[str]:
        """Return the ids of the rows that are not to be tried yet."""
        return self.waits.ids()

    def put(self, row_id: str, error: BaseException | str) -> None:
        """Set a row aside, for twice as long as the last time, and tell it."""
        self.put_all([(row_id, error)])

    def put_all(self, refused: Sequence[tuple[str, BaseException | str]]) -> None:
        """Set rows aside, each for twice as long as its last time. One event tells all rows with one kind of error."""
        told: dict[object, list[tuple[str, float, str]]] = {}
        for row_id, error in refused:
            passing = isinstance(error, BaseException) and may_pass(error)
            retry_s = self.waits.put(row_id, may_pass=passing)
            kind = type(error) if isinstance(error, BaseException) else error
            told.setdefault(kind, []).append((row_id, retry_s, str(error)))
        for rows in told.values():
            self._tell(rows)
        if self.waits.forget_oldest(MOST) and time.monotonic() >= self._full_again_at:
            self._full_again_at = time.monotonic() + FULL_AGAIN_S
            self._emit(AsideFull(part=self._part, table=self._table, most=MOST))

    def forget(self, row_id: str) -> None:
        """Forget a row that was handled after all."""
        if self.waits.forget(row_id):
            self._emit(RowsTakenUp(table=self._table, row_ids=(row_id,)))

    def keep(self, row_ids: AbstractSet[str]) -> None:
        """Forget every row but these: the others are gone."""
        if others := self.waits.keep(row_ids):
            self._emit(RowsTakenUp(table=self._table, row_ids=others))

    def _tell(self, rows: Sequence[tuple[str, float, str]]) -> None:
        self._emit(
            RowsSetAside(
                part=self._part,
                table=self._table,
                row_ids=tuple(row_id for row_id, _, _ in rows),
                error=rows[0][2],
                retry_s=min(retry_s for _, retry_s, _ in rows),
            )
        )
