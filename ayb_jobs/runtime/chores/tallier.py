"""Keeps what charts are drawn from: what ended in each minute, and how much waited and ran."""

import threading
import time
from collections.abc import Sequence

from ayb_jobs.events import Emit, Events, JobRecovered, JobsSettled
from ayb_jobs.metrics import MOST_TYPES, OTHER
from ayb_jobs.model.job import JobState
from ayb_jobs.model.lifecycle import Outcome
from ayb_jobs.model.tally import Tally
from ayb_jobs.runtime.aside import Aside
from ayb_jobs.runtime.chores.transactions import Transactions
from ayb_jobs.runtime.narrowing import Patience, narrowed
from ayb_jobs.storage.queue.minutes import Ended, add_ended, keep_level

WRITE_S = 10.0
# A little less than a minute, so that no minute is left out.
LEVEL_S = 50.0


class Tallier:
    """Counts what ends, and writes it some seconds later, all daemons into one row of each minute and job type.

    Subscribe it to the events. What was counted and not written when a daemon dies is missing from the charts. A type
    whose row the database refuses is set aside with what was counted of it; the others are written.
    """

    def __init__(self, database: Transactions, emit: Emit) -> None:
        self._database = database
        self._aside = Aside(emit, part="tallier", table="_ayb_job_minutes")
        self._patience = Patience()
        self._lock = threading.Lock()
        self._ended: dict[str, Ended] = {}
        self._next_level = 0.0

    def __call__(self, event: object) -> None:
        """Count what an event says has ended."""
        match event:
            case JobsSettled():
                for job_type, tally in event.tallies.items():
                    self._add(job_type, ended_of(tally))
            case JobRecovered():
                failed = event.job.state == JobState.FAILED
                self._add(event.job.type, Ended(failed=int(failed), retried=int(not failed)))
            case _:
                pass

    def _add(self, job_type: str, ended: Ended) -> None:
        with self._lock:
            name = job_type if job_type in self._ended or len(self._ended) < MOST_TYPES else OTHER
            self._ended[name] = plus(self._ended.get(name, Ended()), ended)

    def tick(self) -> float:
        """Write what has ended since, and once a minute the level; return the seconds until the next turn."""
        self.flush()
        if time.monotonic() >= self._next_level:
            with self._database.transaction() as conn:
                keep_level(conn)
            self._next_level = time.monotonic() + LEVEL_S
        return WRITE_S

    def flush(self) -> None:
        """Write what has ended since the last time; what cannot be written is kept for the next."""
        waiting = set(self._aside.ids())
        with self._lock:
            ended = {name: each for name, each in self._ended.items() if name not in waiting}
            self._ended = {name: each for name, each in self._ended.items() if name in waiting}
        written: set[str] = set()

        def write(names: Sequence[str]) -> None:
            with self._database.transaction() as conn:
                add_ended(conn, {name: ended[name] for name in names})
            written.update(names)

        try:
            refused = narrowed(sorted(ended), write, blames=self._patience.blames).refused
            self._patience.begin_anew()
            self._aside.put_all(refused)
        finally:
            for name in ended.keys() - written:
                self._add(name, ended[name])
        for name in written:
            self._aside.forget(name)


def tallied(database: Transactions, events: Events) -> Tallier:
    """Return a tallier that hears all events."""
    tallier = Tallier(database, events.emit)
    events.subscribe(tallier)
    return tallier


def ended_of(tally: Tally) -> Ended:
    """Return what is kept of a tally; an attempt that asked to be run later is no retry."""
    return Ended(
        completed=tally.count(JobState.COMPLETED),
        failed=tally.count(JobState.FAILED),
        retried=tally.count(JobState.QUEUED) - tally.counts.get((JobState.QUEUED, Outcome.SNOOZED), 0),
        records=tally.records,
    )


def plus(one: Ended, other: Ended) -> Ended:
    """Return the sum of two counts."""
    return Ended(*map(sum, zip(one, other, strict=True)))
