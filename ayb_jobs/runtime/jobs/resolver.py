"""Frees jobs that wait for others, once these have ended: it looks after each commit, and asks nothing in advance.

While no job waits for another, it asks one index for a row now and then, and is told nothing.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence

from ayb_jobs.errors import InvalidInput
from ayb_jobs.events import ChildrenResolved, Emit, Event, JobRecovered, JobsCanceled, JobsSettled
from ayb_jobs.model.actions import ActionTaken
from ayb_jobs.model.checked import checked_id
from ayb_jobs.model.dependencies import Edge
from ayb_jobs.model.job import JobState
from ayb_jobs.runtime.hearing import Hearing
from ayb_jobs.runtime.jobs.careful_writing import CarefulWriting
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.queue.dependencies import (
    NO_EDGE,
    ChildrenLocked,
    Resolved,
    find_edges_of,
    find_ripe_edges,
    resolve,
)

# Edges that one transaction closes: few enough for a statement to end within some 50 ms.
BATCH = 200
# A sweep looks at so many edges a second, while there are any.
SWEPT = 1000
SWEEP_S = 1.0
# Where no notification is heard. Else the heartbeat sees what comes without one.
IDLE_S = 10.0
FOR_EVER_S = 3600.0 * 24
# Ends that are remembered until they are looked at; the sweep finds those beyond.
MOST_ENDED = 100_000
# Children are told in the order of their commits, which is nearly that of their ids.
OUT_OF_ORDER_MS = 2000
# How long one statement waits for children that somebody has locked.
PATIENCE_S = 1.0


class Resolver:
    """Looks in its `tick` at the children of jobs that ended, at those that are new, and at all of them by and by.

    Subscribe `hear` to the events. A sweep of any daemon makes up for a look that an error or a crash prevented.
    """

    def __init__(
        self, *, database: Database, emit: Emit, wake: Callable[[], None], hearing: Hearing | None = None
    ) -> None:
        self._database = database
        self._emit = emit
        self._wake = wake
        self._hearing = hearing or Hearing()
        self._writing = CarefulWriting(emit, part="resolver", table="_ayb_jobs", locked=ChildrenLocked)
        self._ended: deque[str] = deque(maxlen=MOST_ENDED)
        self._waits = True
        self._told = True
        self._newest = NO_EDGE
        self._swept = NO_EDGE
        self._next_sweep = 0.0

    def hear(self, event: Event) -> None:
        """Take note of jobs that ended, if any job waits for another."""
        if not self._waits:
            return
        match event:
            case JobsSettled():
                ended = [each.job.id for each in event.settlements if each.state is not JobState.QUEUED]
            case JobRecovered():
                ended = [event.job.id] if event.job.state != JobState.QUEUED else []
            case JobsCanceled():
                ended = list(event.job_ids)
            case ActionTaken(action="job.cancel", target=str(job_id)):
                ended = [job_id]
            case _:
                return
        if ended:
            self._ended.extend(ended)
            self._wake()

    def told(self) -> None:
        """Look at the newest children: one was enqueued, or what was said may not have been heard."""
        self._told = self._waits = True
        self._wake()

    def seen(self) -> None:
        """Look unless it is known that jobs wait for others: there are some."""
        if not self._waits:
            self.told()

    def ended(self, job_id: str) -> None:
        """Look at the children of a job that ended outside. Anybody may say so; what is no id is ignored."""
        try:
            self._ended.append(checked_id(job_id))
        except InvalidInput:
            return
        self._wake()

    def tick(self) -> float:
        """Look once at all that is known to have changed; return the seconds until the next look."""
        if self._told:
            self._told = False
            self._look_at_newest()
        if time.monotonic() >= self._next_sweep:
            self._sweep()
        if not self._waits:  # what is enqueued from here on is looked at by itself
            self._ended.clear()
        if self._ended:
            self._look_at_children([self._ended.popleft() for _ in range(min(len(self._ended), BATCH))])
        self._writing.begin_anew()  # not before: what is refused may be looked at behind what is not
        return 0.0 if self._ended or self._told else max(0.0, self._next_sweep - time.monotonic())

    def _look_at_children(self, parents: Sequence[str]) -> None:
        after = NO_EDGE
        while True:
            with self._database.connection(patient=True) as conn:
                edges = find_edges_of(conn, parents, after=after, limit=BATCH)
            self._resolve(edges)
            if len(edges) < BATCH:
                return
            after = edges[-1]

    def _look_at_newest(self) -> None:
        with self._database.connection(patient=True) as conn:
            page = find_ripe_edges(conn, after=self._newest, limit=SWEPT)
        if page.last is None:
            self._next_sweep = 0.0  # it finds out at once whether any job waits at all
        else:
            self._waits = True
            self._newest = page.last if page.is_full else _somewhat_before(page.last)
        self._told = self._told or page.is_full
        self._resolve(page.ripe)

    def _sweep(self) -> None:
        with self._database.connection(patient=True) as conn:
            page = find_ripe_edges(conn, after=self._swept, limit=SWEPT)
        if page.last is not None:
            self._waits = True  # whatever was enqueued without a word that was heard
        elif self._swept == NO_EDGE:
            self._waits = self._told
        self._swept = page.last if page.is_full and page.last is not None else NO_EDGE
        self._resolve(page.ripe)
        self._next_sweep = time.monotonic() + (SWEEP_S if self._waits else self._idle_s())

    def _idle_s(self) -> float:
        return FOR_EVER_S if self._hearing.now else IDLE_S

    def _resolve(self, edges: Sequence[Edge]) -> None:
        """Close the edges whose parent has ended; children that cannot be changed are skipped."""
        aside = self._writing.aside()
        edges = [edge for edge in edges if edge.child_id not in aside]
        for start in range(0, len(edges), BATCH):
            self._resolve_batch(edges[start : start + BATCH])

    def _resolve_batch(self, edges: Sequence[Edge]) -> None:
        done = self._writing.write(edges, self._write, id_of=lambda edge: edge.child_id, patience_s=PATIENCE_S)
        freed = [child for each in done for child in each.freed]
        canceled = [child for each in done for child in each.canceled]
        self._ended.extend(canceled)
        for child in (*freed, *canceled):
            self._writing.was_written(child)
        if freed or canceled:
            self._emit(ChildrenResolved(freed=freed, canceled=canceled))

    def _write(self, edges: Sequence[Edge], patience_s: float) -> Resolved:
        with self._database.transaction() as conn:
            return resolve(conn, edges, patience_s=patience_s)


def _somewhat_before(edge: Edge) -> Edge:
    """Return a place before an edge: its child's id begins with the milliseconds at which it was made.

    One that says a later time than ours is no such id, or of a host whose clock is ahead.
    """
    made_ms = min(int(edge.child_id.replace("-", "")[:12], 16), int(time.time() * 1000))
    text = f"{max(0, made_ms - OUT_OF_ORDER_MS):012x}"
    return NO_EDGE._replace(child_id=f"{text[:8]}-{text[8:]}-0000-0000-000000000000")
