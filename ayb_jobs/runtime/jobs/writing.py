"""Writes endings to the database, whole batches at a time, and finds out what became of each."""

import time
from collections.abc import Sequence
from typing import NamedTuple

from ayb_jobs import failpoints
from ayb_jobs.events import Emit, RemovalRefused
from ayb_jobs.model.lifecycle import Settlement, settle_canceled
from ayb_jobs.runtime.unlogged import Unlogged
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.faults import RowUnchanged, takes_a_number, was_refused
from ayb_jobs.storage.queue.canceling import end_canceled
from ayb_jobs.storage.queue.executions import renumber_attempts
from ayb_jobs.storage.queue.left_out import find_held, find_locked, find_settled
from ayb_jobs.storage.queue.settling import RowsLocked, settle_jobs

# For how long completed jobs are kept once one of them could not be removed; the pruner removes what it can.
KEEP_S = 60.0


class Written(NamedTuple):
    """What became of endings: settled (by this statement or an unanswered one), lost, or refused in silence."""

    settled: Sequence[Settlement]
    lost: Sequence[Settlement] = ()
    unchanged: Sequence[Settlement] = ()


class Writing:
    """Writes endings in `write`. A completion never depends on the removal of its job.

    `unlogged` is told of the attempts that are settled although their rows were dropped.
    """

    def __init__(self, *, database: Database, emit: Emit, worker_id: str, remove_completed: bool) -> None:
        self.unlogged = Unlogged(emit)
        self._database = database
        self._emit = emit
        self._worker_id = worker_id
        self._remove_completed = remove_completed
        self._keep_until = 0.0

    def write(self, batch: Sequence[Settlement]) -> Written:
        """Settle a batch, or nothing of it. If completed jobs cannot be removed, it is settled all the same.

        Raises `RowsLocked` if some of the jobs are locked by somebody else, or a trigger waits for a lock in vain.
        """
        if not self._remove_completed or time.monotonic() < self._keep_until:
            return self._write_once(batch, remove=False)
        if members := [ended for ended in batch if ended.job.batch_id is not None]:
            return self._keep_members(members, [ended for ended in batch if ended.job.batch_id is None])
        try:
            written = self._write_once(batch, remove=True)
            refusal: Exception = RowUnchanged()
        except Exception as error:
            if not self._may_be_the_removal(batch, error):
                raise
            written, refusal = Written((), unchanged=batch), error
        if not written.unchanged:
            return written
        kept = self._write_once(written.unchanged, remove=False)
        if kept.settled:
            self._keep_until = time.monotonic() + KEEP_S
            self._emit(RemovalRefused(error=refusal))
        return Written([*written.settled, *kept.settled], [*written.lost, *kept.lost], kept.unchanged)

    def _keep_members(self, members: Sequence[Settlement], others: Sequence[Settlement]) -> Written:
        """Settle a batch in two: members of batches stay until their batch is done.

        If the second statement fails, both are tried again: a lease that is settled already is a success.
        """
        kept = self._write_once(members, remove=False)
        written = self.write(others) if others else Written(())
        return Written(*([*one, *other] for one, other in zip(kept, written, strict=True)))

    def find_locked(self, endings: Sequence[Settlement]) -> set[str]:
        """Return the leases (their ids) of jobs whose rows somebody else has locked just now."""
        with self._database.connection() as conn:
            return find_locked(conn, [ended.job.lease for ended in endings])

    def _may_be_the_removal(self, batch: Sequence[Settlement], error: Exception) -> bool:
        """Tell whether a batch that the server refused may be settled if its jobs are kept.

        Errors that usually pass count too, since a trigger on the removal may raise them each time.
        """
        if isinstance(error, RowsLocked):
            return not self.find_locked(batch)
        return was_refused(error)

    def _write_once(self, batch: Sequence[Settlement], *, remove: bool) -> Written:
        try:
            return self._write_numbered(batch, remove=remove)
        except Exception as error:
            if not takes_a_number(error):
                raise
        with self._database.connection() as conn:
            renumber_attempts(conn, [ended.job.lease for ended in batch])
        return self._write_numbered(batch, remove=remove)

    def _write_numbered(self, batch: Sequence[Settlement], *, remove: bool) -> Written:
        with self._database.connection() as conn:
            failpoints.reach(failpoints.SETTLING)
            settled = settle_jobs(conn, batch, worker_id=self._worker_id, now=time.monotonic(), remove_completed=remove)
            written = Written(batch) if len(settled.leases) == len(batch) else judged(conn, batch, settled.leases)
            if written.lost:
                written = self._end_canceled(conn, written)
        if settled.unlogged:
            self.unlogged.put([ended.job.id for ended in batch if ended.job.lease_id in settled.unlogged])
        return written

    def _end_canceled(self, conn: Connection, written: Written) -> Written:
        """End those attempts as canceled whose lease is gone since their jobs are to end so."""
        canceled = {ended.job.lease_id: settle_canceled(ended) for ended in written.lost}
        done = end_canceled(conn, list(canceled.values()), worker_id=self._worker_id, now=time.monotonic())
        if not done:
            return written
        return Written(
            [*written.settled, *(ended for lease_id, ended in canceled.items() if lease_id in done)],
            [ended for ended in written.lost if ended.job.lease_id not in done],
            written.unchanged,
        )


def judged(conn: Connection, batch: Sequence[Settlement], settled: set[str]) -> Written:
    """Find out what became of those of a batch that a statement did not settle."""
    missing = [ended for ended in batch if ended.job.lease_id not in settled]
    settled = settled | find_settled(conn, missing)
    held = find_held(conn, [ended for ended in missing if ended.job.lease_id not in settled])
    return Written(
        [ended for ended in batch if ended.job.lease_id in settled],
        [ended for ended in missing if ended.job.lease_id not in settled | held],
        [ended for ended in missing if ended.job.lease_id in held],
    )
