"""Puts schedules right whose next run is too late, as after the database's clock was set back."""

import time
from collections.abc import Sequence

from ayb_jobs.events import Emit, SchedulePutRight
from ayb_jobs.runtime.aside import Aside
from ayb_jobs.runtime.chores.transactions import Transactions
from ayb_jobs.runtime.narrowing import Patience, narrowed
from ayb_jobs.storage.faults import RowUnchanged
from ayb_jobs.storage.schedules.leaps import NO_ID, Planned, PutRight, Righted, list_planned, put_right, righted

# Reckoning a next run takes a tenth of a millisecond or more, so that a minute brings one page of them.
PAGE = 500
PAUSE_S = 60.0
# A turn looks for so long at most, since what is due waits meanwhile; the next one goes on.
TURN_S = 0.25
# How far the clock may fall behind this machine's own before it counts as set back.
SLACK_S = 2.0


class ClockWatch:
    """Looks at a page of schedules each minute; at all of them at the start, and whenever the clock was set back.

    A schedule that the database refuses to put right is set aside; the others go on.
    """

    def __init__(self, database: Transactions, emit: Emit) -> None:
        self._database = database
        self._emit = emit
        self._after = NO_ID
        self._next_look = 0.0
        self._offset_s: float | None = None
        self._aside = Aside(emit, part="clock watch", table="_ayb_job_schedules")
        self._patience = Patience()
        self.hurries = False

    def hear(self, clock_s: float) -> None:
        """Note what the database's clock says, each time that it is asked, even if there is no time to look."""
        offset_s, before_s = clock_s - time.monotonic(), self._offset_s
        self._offset_s = offset_s
        if before_s is None or offset_s < before_s - SLACK_S:
            self.hurries, self._after = True, NO_ID

    def look(self) -> bool:
        """Look if it is time to; tell whether a next run was put right.

        While it `hurries`, all schedules are to be looked at without a pause: the next turn goes on.
        """
        now = time.monotonic()
        if not self.hurries and now < self._next_look:
            return False
        end = now + TURN_S
        changed = self._look_at_page(end)
        while self.hurries and time.monotonic() < end:
            changed = self._look_at_page(end) or changed
        self._next_look = now + PAUSE_S  # not before: the turn fails until a look succeeds
        return changed

    def _look_at_page(self, end: float) -> bool:
        """Look at schedules behind the last one; what fails is looked at again in the next turn."""
        with self._database.transaction() as conn:
            page = list_planned(conn, after=self._after, limit=PAGE, aside=self._aside.ids())
        seen, found = _too_late(page, end)
        written = narrowed(found, self._put_right, blames=self._patience.blames)
        self._aside.put_all([(each.planned.id, error) for each, error in written.refused])
        self._aside.put_all([(id_, RowUnchanged()) for done in written.done for id_ in done.unchanged])
        changed = {id_ for done in written.done for id_ in done.ids}
        self._tell(found, changed)
        if not written.left:  # else the same page again, without those that were set aside
            self._patience.begin_anew()
            is_last = seen == len(page) < PAGE
            self._after = NO_ID if is_last else page[seen - 1].id
            self.hurries = self.hurries and not is_last
        return bool(changed)

    def _tell(self, found: Sequence[Righted], changed: set[str]) -> None:
        for planned, next_at in found:
            if planned.id in changed:
                self._aside.forget(planned.id)
                self._emit(
                    SchedulePutRight(
                        schedule_id=planned.id, name=planned.name, was=planned.next_run_at, next_run_at=next_at
                    )
                )

    def _put_right(self, wanted: Sequence[Righted]) -> PutRight:
        with self._database.transaction() as conn:
            return put_right(conn, wanted)


def _too_late(page: Sequence[Planned], end: float) -> tuple[int, list[Righted]]:
    """Return how many schedules of a page were looked at before `end`, one at least, and which are to be put right."""
    found: list[Righted] = []
    for seen, planned in enumerate(page, start=1):
        if (wanted := righted(planned)) is not None:
            found.append(wanted)
        if time.monotonic() >= end:
            return seen, found
    return len(page), found
