"""Removes what retention no longer keeps, such as finished jobs and old executions, in short batches."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Generic, NamedTuple, TypeVar

from ayb_jobs.config import Retention
from ayb_jobs.events import Emit, RetentionDeferred, RowsPrunable, RowsPruned, RowsUnprunable
from ayb_jobs.model.job import JobState
from ayb_jobs.runtime.each import do_each
from ayb_jobs.runtime.narrowing import Patience, narrowed
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.faults import RowUnchanged
from ayb_jobs.storage.fleet.limit_keys import delete_limit_keys, find_old_limit_keys
from ayb_jobs.storage.queue.batches import delete_batches, find_old_batches
from ayb_jobs.storage.queue.dependencies import delete_edges, find_orphaned_edges
from ayb_jobs.storage.queue.jobs import Position
from ayb_jobs.storage.queue.minutes import delete_levels, delete_minutes, find_old_levels, find_old_minutes
from ayb_jobs.storage.queue.outputs import delete_outputs, find_old_outputs, prune_outputs
from ayb_jobs.storage.queue.pruning import (
    delete_executions,
    delete_jobs,
    find_old_executions,
    find_old_jobs,
    prune_executions,
    prune_jobs,
)
from ayb_jobs.storage.queue.refusals import delete_refusals, find_old_refusals
from ayb_jobs.storage.queue.results import delete_results, find_old_results, prune_results
from ayb_jobs.storage.queue.retention import deferred_retention, kept_jobs
from ayb_jobs.storage.queue.steps import delete_steps, find_orphaned_steps
from ayb_jobs.storage.rows import Deleted
from ayb_jobs.storage.schedules.ledger import (
    PRUNE_BATCH,
    delete_alerts,
    delete_fires,
    find_old_alerts,
    find_old_fires,
    prune_alerts,
    prune_fires,
)

TURN_S = 3600.0

Key = TypeVar("Key")


class Old(NamedTuple, Generic[Key]):
    """How the old rows of one table are removed: in batches, or found by their keys and tried one by one.

    A table without `prune` never has many old rows.
    """

    table: str
    find: Callable[..., Sequence[Key]]
    delete: Callable[[Connection, Sequence[Key]], Deleted]
    prune: Callable[..., Deleted] | None = None


FIRES = Old("fires", find_old_fires, delete_fires, prune_fires)
ALERTS = Old("alerts", find_old_alerts, delete_alerts, prune_alerts)
RESULTS = Old("results", find_old_results, delete_results, prune_results)
OUTPUTS = Old("outputs", find_old_outputs, delete_outputs, prune_outputs)
MINUTES = Old("minutes", find_old_minutes, delete_minutes)
LEVELS = Old("levels", find_old_levels, delete_levels)
LIMIT_KEYS = Old("keys of limits", find_old_limit_keys, delete_limit_keys)
REFUSALS = Old("refusals", find_old_refusals, delete_refusals)
# Charts go back a week.
CHARTS_KEPT = timedelta(days=8)
# A clock that is set back by less finds all that its rates have spent.
LIMIT_KEYS_KEPT = timedelta(hours=1)
# Workers forget theirs after ten minutes, as long as any leases.
REFUSALS_KEPT = timedelta(hours=1)


class Removal:
    """Deletes a table's old rows one by one if need be; counts what is gone and what the database refuses to delete."""

    def __init__(self, database: Database, patience: Patience) -> None:
        self._database = database
        self._patience = patience
        self.removed = 0
        self.refused = 0
        self.error: BaseException | None = None

    def count(self, removed: int, kept: int) -> None:
        """Count rows that are gone, and rows that a trigger kept without an error."""
        self.removed += removed
        self.refused += kept
        if kept:
            self.error = self.error or RowUnchanged()

    def delete(self, ids: Sequence[Key], delete: Callable[[Connection, Sequence[Key]], Deleted]) -> None:
        """Delete rows, passing over those that the database refuses."""

        def delete_some(some: Sequence[Key]) -> None:
            with self._database.transaction() as conn:
                deleted = delete(conn, some)
            self.count(deleted.rows, deleted.kept)

        for start in range(0, len(ids), BATCH):
            written = narrowed(ids[start : start + BATCH], delete_some, blames=self._patience.blames)
            for _, error in written.refused:
                self.refused += 1
                self.error = error


# Few enough for `narrowed` to try each by itself.
BATCH = 64


class Pruner:
    """Removes everything old in its `tick`, hourly and at start-up; ends between two batches once `stopping` is set.

    A row that cannot be deleted is passed over, counted and told. What was there before the database was adopted goes
    only after a day's notice, unless the configuration says for how long to keep it.
    """

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
        self._patience = Patience()
        self._kept: set[str] = set()

    def tick(self) -> float:
        """Remove all that is old; return the seconds until the next turn. What fails keeps nothing else from going."""
        turn_s, deferred = self._give_notice()
        prunings: list[Callable[[], None]] = [
            partial(self._prune_jobs, state, timedelta(hours=hours))
            for state, hours, _ in kept_jobs(self._retention)
            if state not in deferred
        ]
        if self._retention.executions_h >= 0:
            keep = timedelta(hours=self._retention.executions_h)
            prunings += [
                partial(self._prune_executions, keep),
                partial(self._prune_old, FIRES, keep),
                partial(self._prune_old, ALERTS, keep),
                partial(self._prune_old, OUTPUTS, keep),
            ]
        prunings += [
            self._prune_steps,
            self._prune_edges,
            self._prune_batches,
            partial(self._prune_old, MINUTES, CHARTS_KEPT),
            partial(self._prune_old, LEVELS, CHARTS_KEPT),
            partial(self._prune_old, LIMIT_KEYS, LIMIT_KEYS_KEPT),
            partial(self._prune_old, REFUSALS, REFUSALS_KEPT),
        ]
        if self._retention.results_h >= 0:
            prunings.append(partial(self._prune_old, RESULTS, timedelta(hours=self._retention.results_h)))
        do_each(prunings)
        self._patience.begin_anew()
        return turn_s

    def _give_notice(self) -> tuple[float, set[JobState]]:
        """Tell what is to go in a day; return the seconds until the next turn, and the states that are left alone."""
        with self._database.connection() as conn:
            deferred = deferred_retention(conn, self._retention)
        for state, hours, begins_in_s in deferred:
            self._emit(RetentionDeferred(state=state, kept_h=hours, begins_in_s=begins_in_s))
        turn_s = min([TURN_S, *(each.begins_in_s + 1 for each in deferred)])
        return turn_s, {each.state for each in deferred}

    @contextmanager
    def _removal(self, table: str) -> Iterator[Removal]:
        """Tell what became of a table's old rows, even if a later batch fails: what is gone is gone."""
        removal = Removal(self._database, self._patience)
        try:
            yield removal
        finally:
            if removal.removed:
                self._emit(RowsPruned(table=table, rows=removal.removed))
            if removal.error is not None:
                self._kept.add(table)
                self._emit(RowsUnprunable(table=table, rows=removal.refused, error=removal.error))
        if removal.error is None and table in self._kept:
            self._kept.discard(table)
            self._emit(RowsPrunable(table=table))

    def _walk(self, table: str, batch: Callable[[Key | None, Removal], Key | None]) -> None:
        """Remove a table's old rows batch by batch; each batch tells behind what the next one goes on."""
        after: Key | None = None
        with self._removal(table) as removal:
            while not self._stopping.is_set():
                after = batch(after, removal)
                if after is None:
                    break

    def _prune_jobs(self, state: JobState, keep: timedelta) -> None:
        self._walk(f"{state} jobs", partial(self._jobs_batch, state, keep))

    def _jobs_batch(
        self, state: JobState, keep: timedelta, after: Position | None, removal: Removal
    ) -> Position | None:
        try:
            with self._database.connection() as conn:
                pruned = prune_jobs(conn, state=state, keep=keep, after=after)
        except Exception as error:
            if not self._patience.blames(error):
                raise
        else:
            removal.count(pruned.rows, pruned.kept)
            return pruned.next
        with self._database.connection() as conn:
            old = find_old_jobs(conn, state=state, keep=keep, after=after)
        removal.delete(old.ids, partial(delete_jobs, state=state))
        return old.next

    def _prune_steps(self) -> None:
        """Remove the steps of jobs that are gone."""
        self._walk("steps", self._steps_batch)

    def _steps_batch(self, after: str | None, removal: Removal) -> str | None:
        with self._database.connection() as conn:
            orphaned = find_orphaned_steps(conn, after=after)
        removal.delete(orphaned.job_ids, delete_steps)
        return orphaned.next

    def _prune_edges(self) -> None:
        """Remove what is known of the parents of jobs that are gone."""
        self._walk("dependencies", self._edges_batch)

    def _edges_batch(self, after: str | None, removal: Removal) -> str | None:
        with self._database.connection() as conn:
            orphaned = find_orphaned_edges(conn, after=after)
        removal.delete(orphaned.child_ids, delete_edges)
        return orphaned.next

    def _prune_batches(self) -> None:
        """Remove batches that are done, and of which no member is left."""
        self._walk("batches", self._batches_batch)

    def _batches_batch(self, after: str | None, removal: Removal) -> str | None:
        with self._database.connection() as conn:
            old = find_old_batches(conn, after=after)
        removal.delete(old.ids, delete_batches)
        return old.next

    def _prune_executions(self, keep: timedelta) -> None:
        self._walk("executions", partial(self._executions_batch, keep))

    def _executions_batch(self, keep: timedelta, after: int | None, removal: Removal) -> int | None:
        try:
            with self._database.connection() as conn:
                pruned = prune_executions(conn, keep=keep, after=after)
        except Exception as error:
            if not self._patience.blames(error):
                raise
        else:
            removal.count(pruned.rows, pruned.kept)
            return pruned.next
        with self._database.connection() as conn:
            old = find_old_executions(conn, keep=keep, after=after)
        removal.delete(old.ids, delete_executions)
        return old.next if old.ids else None

    def _prune_old(self, old: Old[Key], keep: timedelta) -> None:
        with self._removal(old.table) as removal:
            if old.prune is None or not self._all_in_batches(old.prune, keep, removal):
                self._prune_one_by_one(old, keep, removal)

    def _all_in_batches(self, prune: Callable[..., Deleted], keep: timedelta, removal: Removal) -> bool:
        """Remove rows batch by batch; tell whether that was all, or rows that cannot be deleted may hide others."""
        try:
            while not self._stopping.is_set():
                with self._database.connection() as conn:
                    batch = prune(conn, keep=keep, batch=PRUNE_BATCH)
                removal.count(batch.rows, 0)  # those that were kept are found again, and counted then
                if batch.rows < PRUNE_BATCH:
                    return not batch.kept
        except Exception as error:
            if not self._patience.blames(error):
                raise
            return False
        return True

    def _prune_one_by_one(self, old: Old[Key], keep: timedelta, removal: Removal) -> None:
        after = None
        while not self._stopping.is_set():
            with self._database.connection() as conn:
                keys = old.find(conn, keep=keep, after=after)
            if not keys:
                break
            removal.delete(keys, old.delete)
            after = keys[-1]
