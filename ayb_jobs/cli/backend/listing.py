"""The way to the lists of jobs; apart from the others, since lists are what people ask for most."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Protocol

from ayb_jobs.cli.backend.asked import api_url, token
from ayb_jobs.cli.options import Options
from ayb_jobs.model.filters import Filter
from ayb_jobs.model.pauses import PauseKind


class ListingBackend(Protocol):
    """What the lists of jobs ask, answered like `JobsBackend`."""

    def now(self) -> datetime:
        """Return the database's clock."""
        ...

    def list_jobs(self, wanted: Filter, *, state: str | None, due: bool | None, limit: int) -> str:
        """Return a page of jobs, the newest first; of those that are due, or due later, in the order of that."""
        ...

    def paused_names(self) -> frozenset[tuple[PauseKind, str]]:
        """Return which queues, types and keys are paused."""
        ...


@contextmanager
def open_listing(options: Options) -> Iterator[ListingBackend]:
    """Open the way to the lists of jobs, as `open_jobs` does to the jobs."""
    if url := api_url(options):
        from ayb_jobs.cli.backend.api import ApiBackend  # only one of the two is needed

        yield ApiBackend(url, token(options))
        return
    from ayb_jobs.cli.backend.database import database
    from ayb_jobs.cli.backend.database_listing import DatabaseListing

    with database(options) as conn:
        yield DatabaseListing(conn)
