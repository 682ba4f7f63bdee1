"""Settles attempts: everything that has ended since the last statement in one statement.

It never waits on purpose. Under load, batches grow by themselves while the statement before is under way; a lone job is
settled at once.
"""

import random
import time
from collections import deque
from collections.abc import Callable, Sequence

from ayb_jobs import failpoints
from ayb_jobs.events import Emit, JobsReleased, JobsSettled, LeasesLost, SettlementRefused
from ayb_jobs.model.backoff import Backoff
from ayb_jobs.model.lifecycle import Settlement, settle_failure
from ayb_jobs.redact import redact
from ayb_jobs.runtime.jobs.in_flight import Held, InFlight, leases_of
from ayb_jobs.storage.database import Database, blames_the_rows
from ayb_jobs.storage.queue.leases import release_jobs
from ayb_jobs.storage.queue.settling import RowsLocked, find_locked, find_settled, settle_jobs

BATCH = 500
# How often jobs are tried again whose rows somebody else has locked.
LOCKED_S = 1.0
REFUSED = "the database refused to store how the attempt ended"


class Completer:
    """Takes endings from workers (`settle`, `release`), and writes them in its `tick`.

    What cannot be written now is kept and tried again with the same lease. A repeated settling that finds its own lease
    already settled is a success.
    """

    def __init__(
        self,
        *,
        database: Database,
        in_flight: InFlight,
        emit: Emit,
        worker_id: str,
        backoff: Backoff,
        remove_completed: bool,
        wake: Callable[[], None],
        redact: Callable[[str], str] = redact,
    ) -> None:
        self._database = database
        self._in_flight = in_flight
        self._emit = emit
        self._worker_id = worker_id
        self._backoff = backoff
        self._remove_completed = remove_completed
        self._wake = wake
        self._redact = redact
        self._ended: deque[Settlement] = deque()
        self._returned: deque[Held] = deque()
        self._batch: list[Settlement] = []
        self._locked: list[Settlement] = []
        self._locked_returned: list[Held] = []
        self._look_at_locked = 0.0
        self._most = BATCH
        self._asleep = True

    def settle(self, _held: Held, settlement: Settlement) -> None:
        """Have the end of an attempt written, without secrets in its error. Each job pays for this: next to nothing."""
        if settlement.error is not None:
            settlement = settlement._replace(error=self._redact(settlement.error))
        self._ended.append(settlement)
        if self._asleep:
            self._asleep = False
            self._wake()

    def release(self, held: Held) -> None:
        """Have a job given back, with its attempt, whose handler ended early because the daemon stops."""
        self._returned.append(held)
        self._wake()

    def settled(self, settlement: Settlement) -> None:
        """Take note of an attempt that its handler's own transaction settled."""
        self._in_flight.remove([settlement.job.lease_id])
        self._emit(JobsSettled(settlements=[settlement], now=time.monotonic()))

    @property
    def pending(self) -> int:
        """How many endings are not yet written."""
        return (
            len(self._batch) + len(self._ended) + len(self._locked) + len(self._returned) + len(self._locked_returned)
        )

    def tick(self) -> float:
        """Write one batch; return 0 while there is more, else a long time."""
        self._take_up_unlocked()
        if not self._batch:
            self._batch = self._next_batch()
        if self._batch:
            self._settle_batch()
            return 0.0
        self._release_returned()
        return self._sleep()

    def _sleep(self) -> float:
        self._asleep = True
        # An ending put in between saw us awake and did not wake us: look once more.
        return 0.0 if self._ended else LOCKED_S if self._locked or self._locked_returned else 60.0

    def _next_batch(self) -> list[Settlement]:
        ended = self._ended
        return [ended.popleft() for _ in range(min(len(ended), self._most))]

    def _settle_batch(self) -> None:
        batch = self._batch
        try:
            lost = self._write(batch)
        except RowsLocked:
            self._set_locked_aside()
            return
        except Exception as error:
            if blames_the_rows(error):
                self._narrow_down(error)
            raise
        failpoints.reach(failpoints.SETTLED)
        self._most = BATCH
        self._batch = []
        self._in_flight.remove([ended.job.lease_id for ended in batch])
        self._report(batch, lost)

    def _write(self, batch: Sequence[Settlement]) -> Sequence[Settlement]:
        """Settle a batch; return what is settled neither by this statement nor by one whose answer was lost."""
        with self._database.connection() as conn:
            failpoints.reach(failpoints.SETTLING)
            settled = settle_jobs(
                conn, batch, worker_id=self._worker_id, now=time.monotonic(), remove_completed=self._remove_completed
            )
            if len(settled) == len(batch):
                return ()
            missing = [ended for ended in batch if ended.job.lease_id not in settled]
            settled = find_settled(conn, missing)
            return [ended for ended in missing if ended.job.lease_id not in settled]

    def _report(self, batch: Sequence[Settlement], lost: Sequence[Settlement]) -> None:
        gone = {ended.job.lease_id for ended in lost}
        written = [ended for ended in batch if ended.job.lease_id not in gone] if gone else batch
        if written:
            self._emit(JobsSettled(settlements=written, now=time.monotonic()))
        if lost:
            self._emit(LeasesLost(job_ids=[ended.job.id for ended in lost], during="settle"))

    def _set_locked_aside(self) -> None:
        """Go on without the jobs whose rows somebody else has locked, so that the others need not wait for them."""
        free, locked = self._by_lock(self._batch)
        self._batch = free
        self._locked += locked
        self._look_at_locked = time.monotonic() + LOCKED_S

    def _take_up_unlocked(self) -> None:
        if time.monotonic() < self._look_at_locked:
            return
        while self._locked_returned:
            self._returned.append(self._locked_returned.pop())
        if not self._locked:
            return
        free, self._locked = self._by_lock(self._locked)
        self._ended.extend(free)
        self._look_at_locked = time.monotonic() + LOCKED_S

    def _by_lock(self, endings: Sequence[Settlement]) -> tuple[list[Settlement], list[Settlement]]:
        with self._database.connection() as conn:
            locked = find_locked(conn, endings)
        free = [ended for ended in endings if ended.job.lease_id not in locked]
        return free, [ended for ended in endings if ended.job.lease_id in locked]

    def _narrow_down(self, error: Exception) -> None:
        """Go on with half the batch, so that the row which cannot be written is in the end alone."""
        if len(self._batch) == 1:
            self._replace_refused(self._batch.pop(), error)
            return
        half = len(self._batch) // 2
        self._ended.extendleft(reversed(self._batch[half:]))
        self._batch = self._batch[:half]
        self._most = max(1, half)

    def _replace_refused(self, ended: Settlement, error: Exception) -> None:
        """Write a plain failure instead; where that is refused too, let the lease expire, for the recoverer to find."""
        if ended.error is None or not ended.error.startswith(REFUSED):
            self._ended.append(
                settle_failure(
                    ended.job,
                    f"{REFUSED}: {error}",
                    ended.started,
                    ended.ended,
                    backoff=self._backoff,
                    chance=random.random(),  # noqa: S311 - jitter, not a secret
                )
            )
            return
        self._in_flight.disown(ended.job.lease)
        self._emit(SettlementRefused(job=ended.job, error=error))

    def _release_returned(self) -> None:
        returned = list(self._returned)
        if not returned:
            return
        with self._database.connection() as conn:
            released, locked = release_jobs(conn, leases_of(returned))
        for _ in returned:
            self._returned.popleft()
        if locked:
            self._locked_returned += [held for held in returned if held.job.lease_id in locked]
            self._look_at_locked = time.monotonic() + LOCKED_S
        self._in_flight.remove(held.job.lease_id for held in returned if held.job.lease_id not in locked)
        if released:
            self._emit(JobsReleased(job_ids=[held.job.id for held in returned if held.job.lease_id in released]))
