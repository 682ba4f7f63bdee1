"""Lists of jobs on the database itself: apart from what changes jobs, which takes as long to import as a list takes."""

from ayb_jobs.cli.backend.database import DatabaseClock
from ayb_jobs.model.filters import Filter
from ayb_jobs.model.job import JobState
from ayb_jobs.model.pauses import PauseKind
from ayb_jobs.storage.fleet.paused import paused_names
from ayb_jobs.storage.queue.jobs import list_jobs
from ayb_jobs.storage.queue.queued import list_queued
from ayb_jobs.wire.jobs import job_text
from ayb_jobs.wire.text import page_text


class DatabaseListing(DatabaseClock):
    """A `ListingBackend` that is the database itself."""

    def list_jobs(self, wanted: Filter, *, state: str | None, due: bool | None, limit: int) -> str:
        """Return a page of jobs, the newest first; of those that are due, or due later, in the order of that."""
        asked = JobState(state) if state else None
        if due is not None:
            return page_text(map(job_text, list_queued(self._conn, wanted, due=due, state=asked, limit=limit).jobs))
        return page_text(map(job_text, list_jobs(self._conn, state=asked, wanted=wanted, limit=limit)))

    def paused_names(self) -> frozenset[tuple[PauseKind, str]]:
        """Return which queues, types and keys are paused."""
        return paused_names(self._conn)
