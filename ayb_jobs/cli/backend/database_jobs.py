"""Jobs on the database itself, open while no daemon runs."""

import json
from collections.abc import Mapping
from typing import Any

from ayb_jobs.checks.why import Waits, why_job, why_waits
from ayb_jobs.cli.backend.acting import EnqueueingBackend
from ayb_jobs.model.filters import Filter
from ayb_jobs.operations import bulk
from ayb_jobs.operations import jobs as operations
from ayb_jobs.storage.faults import worded_faults
from ayb_jobs.storage.fleet.unclaimable import unclaimable_jobs
from ayb_jobs.storage.fleet.waiting import why_waiting
from ayb_jobs.storage.queue import jobs
from ayb_jobs.storage.queue.batch_views import find_batch_of
from ayb_jobs.storage.queue.dependencies import list_family
from ayb_jobs.storage.queue.executions import list_executions
from ayb_jobs.storage.queue.outputs import read_output
from ayb_jobs.storage.queue.stats import job_stats
from ayb_jobs.storage.rights import may_change_jobs
from ayb_jobs.wire.batches import progress_fields
from ayb_jobs.wire.jobs import bulk_text, execution_text, job_text, output_text, stats_text
from ayb_jobs.wire.new_jobs import enqueue_fields
from ayb_jobs.wire.text import page_text
from ayb_jobs.wire.waits import wait_text


class DatabaseJobs(EnqueueingBackend):
    """A `JobsBackend` that is the database itself."""

    def job_stats(self) -> str:
        """Return the number of jobs in each state."""
        unclaimable = unclaimable_jobs(self._conn)
        return stats_text(job_stats(self._conn), unclaimable=unclaimable.by_type, unclaimable_cut=unclaimable.cut)

    def get_job(self, job_id: str) -> str:
        """Return a job, with why it waits."""
        with worded_faults():
            job = jobs.get_job(self._conn, job_id)
        family, batch = list_family(self._conn, job.id), find_batch_of(self._conn, job)
        reason, progress = why_waiting(self._conn, job), progress_fields(batch) if batch else None
        return job_text(job, wait_reason=reason.words if reason else None, family=family, batch_progress=progress)

    def why(self, job_id: str | None, queue: str | None) -> str:
        """Return why a job waits, or those of a queue do, or any do."""
        found = Waits([why_job(self._conn, job_id)]) if job_id else why_waits(self._conn, queue=queue)
        return page_text(map(wait_text, found.first), atLeast=found.more)

    def list_executions(self, job_id: str, *, limit: int) -> str:
        """Return a page of a job's attempts, the newest first."""
        return page_text(map(execution_text, list_executions(self._conn, job_id=job_id, limit=limit)))

    def get_output(self, job_id: str, *, attempt: int | None) -> str:
        """Return what a job's command wrote, in its newest attempt or in one of that number."""
        jobs.get_job(self._conn, job_id)
        return output_text(read_output(self._conn, job_id, attempt=attempt))

    def enqueue(self, body: Mapping[str, Any]) -> str:
        """Enqueue a job and return it, or the one that has its idempotency key.

        If the role may do no more than enqueue, the answer has no more than the job's id, type, and state if known.
        """
        if not may_change_jobs(self._conn):
            new, job_id, is_queued = operations.enqueue_unseen(
                self._conn, enqueue_fields(body), defaults=self._defaults
            )
            return json.dumps({"id": job_id, "type": new.type} | ({"state": "queued"} if is_queued else {}))
        made = operations.enqueue(self._conn, enqueue_fields(body), actor=self._actor, defaults=self._defaults)
        return job_text(made.job)

    def change_jobs(self, action: str, wanted: Filter, *, dry_run: bool, cursor: str = "") -> str:
        """Retry or cancel jobs that match, or count them; if it is not `done`, the next call gives its `nextCursor`."""
        asked = bulk.BulkAction(action)
        if dry_run:
            found = bulk.Changed(count=bulk.count(self._conn, asked, wanted))
        else:
            at, _, job_id = cursor.rpartition(" ")
            after = jobs.Position(at, job_id) if cursor else None
            found = bulk.change(self._step, asked, wanted, actor=self._actor, after=after)
        rest = " ".join(found.next) if found.next else None
        return bulk_text(action, count=found.count, next_cursor=rest, dry_run=dry_run)

    def retry_job(self, job_id: str) -> str:
        """Queue a failed job again and return it."""
        return job_text(operations.retry(self._conn, job_id, actor=self._actor))

    def cancel_job(self, job_id: str, *, running: bool, force: bool) -> str:
        """Cancel a queued job and return it; with `running` or `force` also one that runs."""
        return job_text(operations.cancel(self._conn, job_id, actor=self._actor, running=running, force=force))

    def run_again(self, job_id: str, body: Mapping[str, Any]) -> str:
        """Make a new job of an old one and return it."""
        return job_text(operations.run_again(self._conn, job_id, body, actor=self._actor, defaults=self._defaults))
