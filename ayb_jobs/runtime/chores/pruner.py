"""Removes what retention lets go: finished jobs and old executions, in short batches that stop at once when told."""

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta

from ayb_jobs.config import Retention
from ayb_jobs.events import Emit, RowsPruned
from ayb_jobs.model.job import JobState
from ayb_jobs.storage.database import Database
from ayb_jobs.storage.queue.pruning import prune_executions, prune_jobs
from ayb_jobs.storage.schedules.ledger import PRUNE_BATCH, prune_alerts, prune_fires

TURN_S = 3600.0


class Pruner:
    """Removes everything old in its `tick`, hourly and at start-up; ends between two batches once `stopping` is set."""

    def __init__(
        self,
        *,
        database: Database,
        retention: Retention,
        emit: Emit,
        stopping: threading.Event,
    ) -> None:
        self._database = database
        self._retention = retention
        self._emit = emit
        self._stopping = stopping

    def tick(self) -> float:
        """Remove all that is old; return the seconds until the next turn."""
        for state, hours in self._kept_jobs():
            self._prune_jobs(state, timedelta(hours=hours))
        if self._retention.executions_h >= 0:
            self._prune_executions(timedelta(hours=self._retention.executions_h))
            self._prune_in_batches("fires", prune_fires, timedelta(hours=self._retention.executions_h))
            self._prune_in_batches("alerts", prune_alerts, timedelta(hours=self._retention.executions_h))
        return TURN_S

    def _kept_jobs(self) -> Iterator[tuple[JobState, int]]:
        """Yield each final state, and for how many hours its jobs are kept; -1 keeps them for ever."""
        kept = {
            JobState.COMPLETED: self._retention.completed_h,
            JobState.CANCELED: self._retention.canceled_h,
            JobState.FAILED: self._retention.failed_h,
        }
        return ((state, hours) for state, hours in kept.items() if hours >= 0)

    def _prune_jobs(self, state: JobState, keep: timedelta) -> None:
        removed, after = 0, None
        while not self._stopping.is_set():
            with self._database.connection() as conn:
                batch = prune_jobs(conn, state=state, keep=keep, after=after)
            removed += batch.rows
            after = batch.next
            if after is None:
                break
        self._report(f"{state} jobs", removed)

    def _prune_executions(self, keep: timedelta) -> None:
        removed, after = 0, 0
        while not self._stopping.is_set():
            with self._database.connection() as conn:
                batch = prune_executions(conn, keep=keep, after=after)
            removed += batch.rows
            if batch.next is None:
                break
            after = batch.next
        self._report("executions", removed)

    def _prune_in_batches(self, table: str, prune: Callable[..., int], keep: timedelta) -> None:
        removed = 0
        while not self._stopping.is_set():
            with self._database.connection() as conn:
                rows = prune(conn, keep=keep, batch=PRUNE_BATCH)
            removed += rows
            if rows < PRUNE_BATCH:
                break
        self._report(table, removed)

    def _report(self, table: str, rows: int) -> None:
        if rows:
            self._emit(RowsPruned(table=table, rows=rows))
