"""Puts schedules right whose next run is too late, as after the database's clock was set back."""

import time
from collections.abc import Sequence

from ayb_jobs.events import Emit, SchedulePutRight
from ayb_jobs.runtime.chores.transactions import Transactions
from ayb_jobs.runtime.narrowing import Patience, narrowed
from ayb_jobs.storage.schedules.leaps import NO_ID, Righted, list_planned, put_right, righted

# Reckoning a next run takes a tenth of a millisecond or more, so that a minute brings one page of them.
PAGE = 500
TURN_S = 60.0
# How far the clock may fall behind this machine's own before it counts as set back.
SLACK_S = 2.0


class ClockWatch:
    """Looks at a page of schedules each minute; at all of them at the start, and whenever the clock was set back."""

    def __init__(self, database: Transactions, emit: Emit) -> None:
        self._database = database
        self._emit = emit
        self._after = NO_ID
        self._next_turn = 0.0
        self._offset_s: float | None = None
        self._patience = Patience()

    def look(self, clock_s: float) -> bool:
        """Look if it is time to; tell whether a next run was put right. `clock_s` is the database's clock."""
        now = time.monotonic()
        offset_s, before_s = clock_s - now, self._offset_s
        self._offset_s = offset_s
        if before_s is None or offset_s < before_s - SLACK_S:
            return self._look_at_all()
        if now < self._next_turn:
            return False
        return self._look_at_page()

    def _look_at_all(self) -> bool:
        self._after = NO_ID
        changed = self._look_at_page()
        while self._after != NO_ID:
            changed = self._look_at_page() or changed
        return changed

    def _look_at_page(self) -> bool:
        self._next_turn = time.monotonic() + TURN_S
        with self._database.transaction() as conn:
            page = list_planned(conn, after=self._after, limit=PAGE)
        self._after = page[-1].id if len(page) == PAGE else NO_ID
        found = [wanted for planned in page if (wanted := righted(planned)) is not None]
        written = narrowed(found, self._put_right, blames=self._patience.blames)
        self._patience.begin_anew()
        changed = [id_ for ids in written.done for id_ in ids]
        for each in found:
            if each.planned.id in changed:
                self._emit(
                    SchedulePutRight(
                        schedule_id=each.planned.id,
                        name=each.planned.name,
                        was=each.planned.next_run_at,
                        next_run_at=each.next_at,
                    )
                )
        return bool(changed)

    def _put_right(self, wanted: Sequence[Righted]) -> list[str]:
        with self._database.transaction() as conn:
            return put_right(conn, wanted)
