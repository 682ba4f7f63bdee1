"""Settles attempts: everything that has ended since the last statement in one statement.

A lone job is settled at once. While other handlers run, a few endings wait for more until `PACE_S` after the statement
before, so that handlers of some milliseconds share one: a statement for each would cost more than they do. Many
endings do not wait, nor does a job under a limit, since another may wait for its place. If such a job ran for no time,
those that were leased with it are about to end as well, and it waits for them for as short a time.
"""

import math
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet

from ayb_jobs import failpoints
from ayb_jobs.events import Emit, JobsSettled, LeasesLost
from ayb_jobs.model.backoff import Backoff
from ayb_jobs.model.job import LAST_PRIORITY
from ayb_jobs.model.lifecycle import Settlement, settle_failure
from ayb_jobs.redact import redact
from ayb_jobs.runtime.aside import Aside
from ayb_jobs.runtime.jobs.in_flight import Held, InFlight, leases_of
from ayb_jobs.runtime.jobs.refused_endings import FIRST_RETRY_S, LONGEST_RETRY_S, RefusedEndings
from ayb_jobs.runtime.jobs.releaser import release_each, tell_released
from ayb_jobs.runtime.jobs.writing import Writing, Written
from ayb_jobs.runtime.narrowing import Patience, narrowed
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.faults import RowUnchanged, blames_our_values, may_be_the_rows, was_refused
from ayb_jobs.storage.queue.settling import RowsLocked, Settled

BATCH = 500
PACE_S = 0.02
FEW = 50
# A job under a limit waits this long for others, if its own handler took less.
GATHER_S = 0.002
# How often jobs are tried again whose rows somebody else has locked.
LOCKED_S = 1.0
# So many refused endings are tried again before others have their turn.
TRIED_AGAIN_AT_ONCE = 16
REFUSED = "the database refused to store how the attempt ended"


class Completer:
    """Takes endings from slots (`settle`, `release`), and writes them in its `tick`.

    It keeps what cannot be written, and tries again with the same lease. A repeated settling that finds its own lease
    already settled is a success. If the database refuses some endings, these are set aside and tried again at growing
    intervals, and the others go on. If somebody has a whole table locked, no ending is to blame, and all wait.
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
        self._worker_id = worker_id
        self._writing = Writing(database=database, emit=emit, worker_id=worker_id, remove_completed=remove_completed)
        self._in_flight = in_flight
        self._emit = emit
        self._backoff = backoff
        self._wake = wake
        self._redact = redact
        self._ended: deque[Settlement] = deque()
        self._returned: deque[Held] = deque()
        self._batch: list[Settlement] = []
        self._locked: list[Settlement] = []
        self._locked_returned: list[Held] = []
        self._look_at_locked = 0.0
        self._refused = RefusedEndings(emit)
        self._doubtful_next = False
        self._aside = Aside(emit, part="completer", table="_ayb_jobs", first_s=FIRST_RETRY_S, longest_s=LONGEST_RETRY_S)
        self._patience = Patience()
        self._asleep = True
        self._hurried = self._gathers = False
        self._began = -math.inf

    def settle(self, held: Held, settlement: Settlement) -> None:
        """Have the end of an attempt written, without secrets in its error. Each job pays for this: next to nothing."""
        held.ended = True
        if settlement.error is not None:
            settlement = settlement._replace(error=self._redact(settlement.error))
        self._ended.append(settlement)
        if settlement.job.priority > LAST_PRIORITY:  # it `is_limited`; asked so, it costs no call
            self._hurry_limited(settlement)
        if self._asleep:
            self._asleep = False
            self._wake()

    def _hurry_limited(self, settlement: Settlement) -> None:
        """Settle the end of a job under a limit at once, or with those that are about to end as well."""
        if settlement.ended - settlement.started >= GATHER_S or len(self._ended) >= len(self._in_flight):
            self._hurried = True
        elif self._gathers:
            return
        self._gathers = self._asleep = True

    def release(self, held: Held) -> None:
        """Have a job released, with its attempt, whose handler never began, or ended because we told it to."""
        self._returned.append(held)
        self._wake()

    def settled(self, settlement: Settlement, written: Settled) -> None:
        """Take note of an attempt that its handler's own transaction settled, and of what was written."""
        if written.unlogged:
            self._writing.unlogged.put([settlement.job.id])
        self._in_flight.remove([settlement.job.lease_id])
        self._emit(JobsSettled(settlements=[settlement], now=time.monotonic()))

    def hurry(self) -> None:
        """Try everything again at once that waits: this daemon stops."""
        self._refused.end_waits()
        self._aside.waits.end_all()
        self._look_at_locked = 0.0
        self._hurried = True
        self._wake()

    @property
    def pending(self) -> int:
        """How many endings are not yet written."""
        unsettled = len(self._batch) + len(self._ended) + len(self._locked) + len(self._refused)
        return unsettled + len(self._returned) + len(self._locked_returned)

    def tick(self) -> float:
        """Write one batch; return 0 while there is more, else the seconds until something is tried again."""
        self._take_up_unlocked()
        if not self._batch:
            if (early_s := self._early_s()) > 0:
                return early_s
            self._batch = self._next_batch()
        more = bool(self._batch)
        if more:
            self._settle_batch()
        if self._refused:
            self._try_refused_again()
        self._release_returned()  # also while there are always more endings: nobody else runs these jobs meanwhile
        return 0.0 if more else self._sleep()

    def _sleep(self) -> float:
        self._asleep = True
        if self._ended:  # an ending put in between saw us awake and did not wake us
            return 0.0
        pause_s = LOCKED_S if self._locked or self._locked_returned else 60.0
        return min(pause_s, self._refused.next_s())

    def _early_s(self) -> float:
        """Return for how long more endings should be waited for."""
        ended = len(self._ended)
        if not 0 < ended < FEW or self._hurried or self._returned or ended >= len(self._in_flight):
            self._hurried = self._gathers = False
            return 0.0
        until = self._ended[0].ended + GATHER_S if self._gathers else self._began + PACE_S
        early_s = until - time.monotonic()
        self._gathers = self._gathers and early_s > 0
        return early_s

    def _next_batch(self) -> list[Settlement]:
        ended = self._ended
        if self._refused:
            return self._next_by_turns()
        return [ended.popleft() for _ in range(min(len(ended), BATCH))]

    def _next_by_turns(self) -> list[Settlement]:
        """Take endings of types of which none is refused now, and of the others, in turn."""
        types = self._refused.types()
        self._doubtful_next = not self._doubtful_next
        waiting = [self._ended.popleft() for _ in range(len(self._ended))]
        wanted = [ended for ended in waiting if (ended.job.type in types) is self._doubtful_next]
        batch = (wanted or waiting)[:BATCH]
        taken = {ended.job.lease_id for ended in batch}
        self._ended.extendleft(ended for ended in reversed(waiting) if ended.job.lease_id not in taken)
        return batch

    def _settle_batch(self) -> None:
        self._began = time.monotonic()
        try:
            written = self._writing.write(self._batch)
        except RowsLocked as error:
            if not self._set_locked_aside():
                self._narrow_down(error)  # a trigger waits for a lock that is none on these rows
            return
        except Exception as error:
            if not self._patience.blames(error):
                raise
            self._narrow_down(error)
            return
        failpoints.reach(failpoints.SETTLED)
        self._patience.begin_anew()
        self._finish(written)

    def _finish(self, written: Written) -> None:
        """Let go of what is settled or lost, and tell it; set aside what the database left as it was."""
        gone = [*written.settled, *written.lost] if written.lost else written.settled
        lease_ids = [ended.job.lease_id for ended in gone]
        self._in_flight.remove(lease_ids)
        self._batch = [] if gone is self._batch else self._without(set(lease_ids))
        if self._refused:
            self._refused.take_up(lease_ids)
        if written.settled:
            self._emit(JobsSettled(settlements=written.settled, now=time.monotonic()))
        if written.lost:
            self._emit(LeasesLost(job_ids=[ended.job.id for ended in written.lost], during="settle"))
        for ended in written.unchanged:
            self._set_refused_aside(ended, RowUnchanged())

    def _without(self, lease_ids: AbstractSet[str]) -> list[Settlement]:
        return [ended for ended in self._batch if ended.job.lease_id not in lease_ids]

    def _set_locked_aside(self) -> bool:
        """Go on without the jobs whose rows somebody else has locked, so that the others need not wait for them."""
        free, locked = self._by_lock(self._batch)
        self._batch = free
        self._locked += locked
        self._look_at_locked = time.monotonic() + LOCKED_S
        return bool(locked)

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
        locked = self._writing.find_locked(endings)
        free = [ended for ended in endings if ended.job.lease_id not in locked]
        return free, [ended for ended in endings if ended.job.lease_id in locked]

    def _try_refused_again(self) -> None:
        result = narrowed(self._refused.due()[:TRIED_AGAIN_AT_ONCE], self._write_and_finish, blames=is_no_outage)
        for ended, refusal in result.refused:
            self._refuse(ended, refusal)
        if any(result.done):
            self._refused.end_waits()  # what refused them may be gone

    def _narrow_down(self, error: Exception) -> None:
        """Settle what can be settled of the batch that `error` kept from it, and set aside what cannot.

        What was not tried comes again, after others. Raises an error that may pass by itself, if none was settled.
        """
        result = narrowed(self._batch, self._write_and_finish, blames=is_no_outage)
        for ended, refusal in result.refused:
            self._refuse(ended, refusal)
        if result.left and not any(result.done) and not may_be_the_rows(error):
            raise error
        self._ended.extendleft(reversed(self._batch))
        self._batch = []
        self._patience.begin_anew()

    def _write_and_finish(self, batch: Sequence[Settlement]) -> int:
        """Settle a batch, and return how many were settled."""
        written = self._writing.write(batch)
        self._finish(written)
        return len(written.settled)

    def _refuse(self, ended: Settlement, error: Exception) -> None:
        """Write a plain failure for an ending that holds what can never be stored; set any other aside."""
        if blames_our_values(error):
            failure = settle_failure(
                ended.job,
                self._redact(f"{REFUSED}: {error}"),
                ended.started,
                ended.ended,
                backoff=self._backoff,
                chance=random.random(),
            )
            instead = narrowed([failure], self._writing.write)
            if instead.done and not instead.done[0].unchanged:
                self._finish(instead.done[0])
                return
        self._set_refused_aside(ended, error)

    def _set_refused_aside(self, ended: Settlement, error: Exception) -> None:
        self._batch = self._without({ended.job.lease_id})
        self._refused.put(ended, error)

    def _release_returned(self) -> None:
        if not self._returned:
            return
        returned = list(self._returned)
        waiting = set(self._aside.ids())
        tried = [held for held in returned if held.job.id not in waiting]
        released = release_each(self._database, leases_of(tried), self._aside, worker_id=self._worker_id)
        for _ in returned:
            self._returned.popleft()
        left = released.locked | released.refused
        self._locked_returned += [held for held in returned if held.job.id in waiting or held.job.lease_id in left]
        if self._locked_returned:
            self._look_at_locked = time.monotonic() + LOCKED_S
        self._in_flight.remove(held.job.lease_id for held in tried if held.job.lease_id not in left)
        tell_released(self._emit, leases_of(tried), released)
        ours = left | released.done | released.canceled
        if lost := [held.job.id for held in tried if held.job.lease_id not in ours and not held.lost]:
            self._emit(LeasesLost(job_ids=lost, during="release"))


def is_no_outage(error: BaseException) -> bool:
    """Tell whether the database answered: it refused a statement, or somebody has a row locked."""
    return isinstance(error, RowsLocked) or was_refused(error)
