"""Settles attempts: everything that has ended since the last statement in one statement.

It never waits on purpose. Under load, batches grow by themselves while the statement before is under way; a lone job is
settled at once.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence

from ayb_jobs.events import JobsReleased, JobsSettled, LeasesLost
from ayb_jobs.model.lifecycle import Settlement
from ayb_jobs.runtime.in_flight import Held, InFlight, leases_of
from ayb_jobs.storage.database import Database
from ayb_jobs.storage.leasing import find_settled, release_jobs, settle_jobs

BATCH = 500


class Completer:
    """Takes endings from workers (`settle`, `release`), and writes them in its `tick`.

    What cannot be written is kept and tried again with the same lease. A repeated settling that finds its own lease
    already settled is a success.
    """

    def __init__(
        self,
        *,
        database: Database,
        in_flight: InFlight,
        emit: Callable[[object], None],
        worker_id: str,
        remove_completed: bool,
        wake: Callable[[], None],
    ) -> None:
        self._database = database
        self._in_flight = in_flight
        self._emit = emit
        self._worker_id = worker_id
        self._remove_completed = remove_completed
        self._wake = wake
        self._ended: deque[Settlement] = deque()
        self._returned: deque[Held] = deque()
        self._batch: list[Settlement] = []
        self._most = BATCH
        self._asleep = True

    def settle(self, _held: Held, settlement: Settlement) -> None:
        """Have the end of an attempt written. Called by workers, for each job: it must cost next to nothing."""
        self._ended.append(settlement)
        if self._asleep:
            self._asleep = False
            self._wake()

    def release(self, held: Held) -> None:
        """Have a job given back, with its attempt, whose handler ended early because the daemon stops."""
        self._returned.append(held)
        self._wake()

    @property
    def pending(self) -> int:
        """How many endings are not yet written."""
        return len(self._batch) + len(self._ended) + len(self._returned)

    def tick(self) -> float:
        """Write one batch; return 0 while there is more, else a long time."""
        self._release_returned()
        if not self._batch:
            self._batch = self._next_batch()
        if self._batch:
            self._settle_batch()
            return 0.0
        return self._sleep()

    def _sleep(self) -> float:
        self._asleep = True
        # An ending put in between saw us awake and did not wake us: look once more.
        return 0.0 if self._ended else 60.0

    def _next_batch(self) -> list[Settlement]:
        ended = self._ended
        return [ended.popleft() for _ in range(min(len(ended), self._most))]

    def _settle_batch(self) -> None:
        batch = self._batch
        try:
            with self._database.connection() as conn:
                settled = settle_jobs(
                    conn,
                    batch,
                    worker_id=self._worker_id,
                    now=time.monotonic(),
                    remove_completed=self._remove_completed,
                )
                missing = [ended for ended in batch if ended.job.lease_id not in settled]
                repeated = find_settled(conn, missing) if missing else set()
        except Exception:
            self._shrink()
            raise
        self._most = BATCH
        self._batch = []
        self._in_flight.remove([ended.job.lease_id for ended in batch])
        self._report(batch, settled | repeated)

    def _report(self, batch: Sequence[Settlement], settled: set[str]) -> None:
        lost = [ended.job.id for ended in batch if ended.job.lease_id not in settled]
        written = [ended for ended in batch if ended.job.lease_id in settled] if lost else batch
        if written:
            self._emit(JobsSettled(settlements=written, now=time.monotonic()))
        if lost:
            self._emit(LeasesLost(job_ids=lost, during="settle"))

    def _shrink(self) -> None:
        """Retry with half the batch, so that a row which cannot be written is in the end alone and holds up no other.

        Such a row goes to the back of the queue; its job stays leased, and held, until it can be written.
        """
        if len(self._batch) == 1:
            self._ended.append(self._batch.pop())
            return
        half = len(self._batch) // 2
        self._ended.extendleft(reversed(self._batch[half:]))
        self._batch = self._batch[:half]
        self._most = max(1, half)

    def _release_returned(self) -> None:
        returned = list(self._returned)
        if not returned:
            return
        with self._database.connection() as conn:
            released = release_jobs(conn, leases_of(returned))
        for _ in returned:
            self._returned.popleft()
        self._in_flight.remove(held.job.lease_id for held in returned)
        self._emit(JobsReleased(job_ids=sorted(released)))
