"""Frees jobs that wait under limits which are no more; those that the database keeps there are set aside."""

from collections.abc import Sequence

from ayb_jobs.events import Emit
from ayb_jobs.runtime.aside import Aside
from ayb_jobs.runtime.jobs.careful_limited import FIRST_RETRY_S, LONGEST_RETRY_S
from ayb_jobs.runtime.narrowing import Patience, narrowed
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.faults import RowUnchanged
from ayb_jobs.storage.queue.put_under import Freed, find_removed, free_removed


class RemovedLimits:
    """Frees jobs in `free`."""

    def __init__(self, *, database: Database, emit: Emit) -> None:
        self._database = database
        self._aside = Aside(emit, part="limits", table="_ayb_jobs", first_s=FIRST_RETRY_S, longest_s=LONGEST_RETRY_S)
        self._patience = Patience()

    def free(self, names: Sequence[str]) -> bool:
        """Free jobs under removed limits of these names; tell whether there may be more."""
        with self._database.connection() as conn:
            ids = find_removed(conn, names, aside=self._aside.ids())
        freed = narrowed(ids, self._free_some, blames=self._patience.blames)
        self._patience.begin_anew()
        kept = [(job_id, RowUnchanged()) for each in freed.done for job_id in each.kept]
        self._aside.put_all([*freed.refused, *kept])
        return bool(freed.left) or any(each.jobs for each in freed.done)

    def _free_some(self, ids: Sequence[str]) -> Freed:
        with self._database.connection() as conn:
            freed = free_removed(conn, ids)
        for job_id in set(ids).difference(freed.kept):
            self._aside.forget(job_id)
        return freed
