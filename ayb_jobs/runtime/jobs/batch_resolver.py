"""Ends batches once their last members have ended, and enqueues their callbacks.

It is told of each member that ends here, and looks after that is committed. Jobs without a batch cost it nothing.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from ayb_jobs.errors import InvalidInput
from ayb_jobs.events import (
    BatchesDone,
    ChildrenResolved,
    Emit,
    Event,
    JobRecovered,
    JobsCanceled,
    JobsSettled,
)
from ayb_jobs.model.actions import ActionTaken
from ayb_jobs.model.batches import EndedBatch
from ayb_jobs.model.checked import checked_id
from ayb_jobs.model.job import JobState
from ayb_jobs.model.lifecycle import Settlement
from ayb_jobs.runtime.hearing import Hearing
from ayb_jobs.runtime.jobs.careful_writing import CarefulWriting
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.queue.batches import (
    FIRST,
    BatchesLocked,
    cancel_queued,
    close_batches,
    find_batches_of,
    find_queued,
    find_sealed,
    look_at_batches,
)

# Batches that one statement looks at or ends.
BATCH = 200
SWEEP_S = 1.0
# Where no notification is heard. Else the heartbeat sees what comes without one.
IDLE_S = 10.0
FOR_EVER_S = 3600.0 * 24
# Members of a batch that is known to go on are followed by one look if they end in close succession: a busy daemon
# spends a tenth of its time on such looks at most, as long as they are no further apart than the second of these.
APART_S = 0.01
MOST_APART_S = 0.02
SHARE = 0.1
# Witnesses and ended jobs that are remembered. The sweep finds what is forgotten.
MOST = 100_000
# Less than PostgreSQL waits before it looks for a deadlock, with a transaction that adds to several batches.
PATIENCE_S = 0.5


class BatchResolver:
    """Looks in its `tick` at the batches whose members ended, and at all of them by and by.

    Subscribe `hear` to the events. A sweep of any daemon makes up for a look that an error or a crash prevented.
    """

    def __init__(
        self, *, database: Database, emit: Emit, wake: Callable[[], None], hearing: Hearing | None = None
    ) -> None:
        self._database = database
        self._emit = emit
        self._wake = wake
        self._hearing = hearing or Hearing()
        self._writing = CarefulWriting(emit, part="batch resolver", table="_ayb_job_batches", locked=BatchesLocked)
        self._canceling = CarefulWriting(emit, part="batch resolver", table="_ayb_jobs", locked=BatchesLocked)
        self._touched: dict[str, None] = {}
        self._ended: dict[str, None] = {}
        self._witnesses: dict[str, str] = {}
        self._swept = FIRST
        self._waits = False
        self._told = False
        self._asleep = True
        self._hurried = False
        self._next_look = 0.0
        self._next_sweep = 0.0

    def hear(self, event: Event) -> None:
        """Take note of the batches whose members ended, and of jobs that ended by other ways than a run here."""
        match event:
            case JobsSettled():
                if members := [one for one in event.settlements if one.job.batch_id is not None]:
                    self._hear_members(members)
            case JobRecovered() if event.job.state != JobState.QUEUED:
                self._note(self._ended, {event.job.id: None})
            case JobsCanceled():
                self._note(self._ended, dict.fromkeys(event.job_ids))
            case ChildrenResolved():
                self._note(self._ended, dict.fromkeys(event.canceled))
            case ActionTaken(action="job.cancel", target=str(job_id)):
                self._note(self._ended, {job_id: None})
            case ActionTaken(action="jobs.cancel" | "batch.cancel" | "batch.seal"):
                self.told()
            case _:
                pass

    def _hear_members(self, settlements: Sequence[Settlement]) -> None:
        """Note the batches of those that ended. Those of the others are looked at when there is a look anyway."""
        members = {one.job.id: str(one.job.batch_id) for one in settlements if one.state is not JobState.QUEUED}
        if members:
            self._note(self._touched, dict.fromkeys(members.values()), hurried=self._may_end(members))
        if len(self._touched) < MOST:
            self._touched.update({str(one.job.batch_id): None for one in settlements if one.job.id not in members})

    def _may_end(self, members: Mapping[str, str]) -> bool:
        """Tell whether one of the batches of these members may have ended: nothing is known of it that goes on."""
        return any(self._witnesses.get(batch_id, member) in members for member, batch_id in members.items())

    def _note(self, known: dict[str, None], new: dict[str, None], *, hurried: bool = False) -> None:
        if not new:
            return
        if len(known) < MOST:
            known.update(new)
        if hurried:
            self._hurried = True
        if self._asleep or hurried:
            self._asleep = False
            self._wake()

    def ended(self, job_id: str) -> None:
        """Look at the batch of a job that ended outside. Anybody may say so; what is no id is ignored."""
        with suppress(InvalidInput):
            self._note(self._ended, {checked_id(job_id): None})

    def told(self) -> None:
        """Look at all batches soon: one was sealed whose members have ended."""
        self._told = True
        self._wake()

    def seen(self) -> None:
        """Look unless it is known that batches wait for their members: there are sealed ones."""
        if not self._waits:
            self.told()

    def tick(self) -> float:
        """Look once at all that is known to have changed; return the seconds until the next look."""
        self._asleep = False
        began = time.monotonic()
        if began < self._next_look and not self._hurried:
            return self._next_look - began
        self._hurried = False
        self._find_touched()
        while self._touched:
            with _taken(self._touched) as batches:
                self._look(batches)
        if self._told:
            self._told, self._swept, self._next_sweep = False, FIRST, 0.0
        if time.monotonic() >= self._next_sweep:
            self._sweep()
        self._canceling.begin_anew()
        self._writing.begin_anew()  # not before: what is refused may be looked at behind what is not
        ended = time.monotonic()
        self._next_look = ended + min(max(APART_S, (ended - began) / SHARE), MOST_APART_S)
        self._asleep = True
        if self._touched or self._ended or self._told:  # what came in between saw us awake and did not wake us
            return APART_S
        return max(0.0, self._next_sweep - time.monotonic())

    def _find_touched(self) -> None:
        """Find the batches of jobs of which only the ids are known."""
        while self._ended:
            with _taken(self._ended) as jobs, self._database.connection(patient=True) as conn:
                self._touched.update(dict.fromkeys(find_batches_of(conn, jobs)))

    def _sweep(self) -> None:
        with self._database.connection(patient=True) as conn:
            page = find_sealed(conn, after=self._swept, limit=BATCH)
        if page:
            self._waits = True
        elif self._swept == FIRST:
            self._waits = False
        self._swept = page[-1] if len(page) == BATCH else FIRST
        self._next_sweep = time.monotonic() + (SWEEP_S if self._waits else self._idle_s())
        self._look(page)

    def _idle_s(self) -> float:
        return FOR_EVER_S if self._hearing.now else IDLE_S

    def _look(self, ids: Sequence[str]) -> None:
        """End those batches of which no member is unfinished; those that cannot be ended are skipped."""
        aside = self._writing.aside()
        asked = [(id_, self._witnesses.get(id_)) for id_ in ids if id_ not in aside]
        if not asked:
            return
        with self._database.connection(patient=True) as conn:
            seen = look_at_batches(conn, asked)
        if seen and not self._waits:
            self._waits = True
            self._next_sweep = min(self._next_sweep, time.monotonic() + SWEEP_S)
        if len(self._witnesses) > MOST:
            self._witnesses.clear()
        witnesses = {each.id: each.witness for each in seen if each.witness is not None}
        for id_, known in asked:
            if known is not None and id_ not in witnesses:
                self._witnesses.pop(id_, None)
        self._witnesses.update(witnesses)
        self._close([each.id for each in seen if each.is_sealed and each.witness is None])
        self._cancel([each.id for each in seen if each.is_canceled and each.witness is not None])

    def _cancel(self, ids: Sequence[str]) -> None:
        """Cancel the queued members of canceled batches: they ran as theirs was canceled, and are to run again."""
        if not ids:
            return
        with self._database.connection(patient=True) as conn:
            members = find_queued(conn, ids, aside=self._canceling.aside(), limit=BATCH)
        if not members:
            return
        done = self._canceling.write(members, self._cancel_members, id_of=str, patience_s=PATIENCE_S)
        canceled = [job_id for some in done for job_id in some]
        for job_id in canceled:
            self._canceling.was_written(job_id)
        if canceled:
            self._emit(JobsCanceled(job_ids=canceled))

    def _cancel_members(self, ids: Sequence[str], _: float) -> list[str]:
        with self._database.transaction() as conn:
            return cancel_queued(conn, ids)

    def _close(self, ids: Sequence[str]) -> None:
        if not ids:
            return
        done = self._writing.write(ids, self._write, id_of=str, patience_s=PATIENCE_S)
        ended = [each for some in done for each in some]
        for each in ended:
            self._writing.was_written(each.id)
        if ended:
            self._emit(BatchesDone(batches=ended))

    def _write(self, ids: Sequence[str], patience_s: float) -> list[EndedBatch]:
        with self._database.transaction() as conn:
            return close_batches(conn, ids, patience_s=patience_s)


@contextmanager
def _taken(known: dict[str, None]) -> Iterator[list[str]]:
    """Take some ids; put them back if the block raises."""
    ids = [known.popitem()[0] for _ in range(min(len(known), BATCH))]
    try:
        yield ids
    except BaseException:
        known.update(dict.fromkeys(ids))
        raise
