"""Ends lost attempts: what the recoverer and the lifeline keeper do with what they find."""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from ayb_jobs import failpoints
from ayb_jobs.events import Emit, JobRecovered
from ayb_jobs.model.backoff import Backoff
from ayb_jobs.model.job import LostLease
from ayb_jobs.model.lifecycle import Settlement, settle_lost
from ayb_jobs.runtime.aside import Aside
from ayb_jobs.runtime.narrowing import Patience, narrowed
from ayb_jobs.runtime.unlogged import Unlogged
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.faults import RowUnchanged, takes_a_number
from ayb_jobs.storage.queue.executions import catch_up_execution_ids
from ayb_jobs.storage.queue.recovery import Recovered, recover_jobs


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovering:
    """Ends lost attempts in one transaction, and sets jobs aside that cannot be recovered.

    Jobs whose rows somebody has locked are passed over until `end_pass`, so that they never fill every batch.
    """

    database: Database
    emit: Emit
    backoff: Backoff
    max_crashes: int
    aside: Aside
    unlogged: Unlogged
    _patience: Patience = field(default_factory=Patience, init=False)
    _locked: set[str] = field(default_factory=set, init=False)

    def left_out(self) -> list[str]:
        """Return the ids of jobs that are not to be looked for yet: set aside, or passed over in this pass."""
        return [*self.aside.ids(), *self._locked]

    def end_pass(self) -> None:
        """Have the jobs that were passed over looked for again: no others are left."""
        self._locked.clear()

    def end(self, lost: Sequence[LostLease]) -> int:
        """End these attempts and tell each; return how many jobs were recovered or set aside.

        Raises the database's error if it refuses many jobs and takes none, after setting those aside.
        """
        now = time.monotonic()
        written = narrowed(
            [(each, self._decided(each, now)) for each in lost], self._write, blames=self._patience.blames
        )
        self._patience.begin_anew()
        self.aside.put_all([(each.job.id, error) for (each, _), error in written.refused])
        unchanged = [job_id for batch in written.done for job_id in batch.unchanged]
        self.aside.put_all([(job_id, RowUnchanged()) for job_id in unchanged])
        recovered = [job for batch in written.done for job in batch.jobs]
        if recovered:
            failpoints.reach(failpoints.RECOVERED)
        for job in recovered:
            self.aside.forget(job.id)
            self.emit(JobRecovered(job=job))
        tried = {each.job.id for each in lost} - {each.job.id for each, _ in written.left}
        done = {*unchanged, *(job.id for job in recovered), *(each.job.id for (each, _), _ in written.refused)}
        self._locked.update(tried - done)
        self.unlogged.put([job_id for batch in written.done for job_id in batch.unlogged])
        if written.left and not recovered:
            raise written.refused[-1].error
        return len(recovered) + len(unchanged) + len(written.refused)

    def _decided(self, lost: LostLease, now: float) -> Settlement:
        chance = random.random()
        return settle_lost(lost, max_crashes=self.max_crashes, backoff=self.backoff, chance=chance, now=now)

    def _write(self, ended: Sequence[tuple[LostLease, Settlement]]) -> Recovered:
        try:
            with self.database.transaction() as conn:
                return recover_jobs(conn, ended)
        except Exception as error:
            if not takes_a_number(error):
                raise
        with self.database.transaction() as conn:
            catch_up_execution_ids(conn)
        with self.database.transaction() as conn:
            return recover_jobs(conn, ended)
