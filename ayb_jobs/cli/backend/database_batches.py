"""Batches on the database itself, open while no daemon runs."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from ayb_jobs.cli.backend.database import actor
from ayb_jobs.cli.options import Options
from ayb_jobs.model.batches import BatchState
from ayb_jobs.operations import batches as operations
from ayb_jobs.operations.defaults import Defaults
from ayb_jobs.storage.clock import now
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue.batch_views import get_batch, list_batches
from ayb_jobs.wire.batches import batch_text, new_batch
from ayb_jobs.wire.text import page_text


class DatabaseBatches:
    """A `BatchesBackend` that is the database itself."""

    def __init__(self, conn: Connection, options: Options) -> None:
        self._conn = conn
        self._options = options
        self._actor = actor()

    def now(self) -> datetime:
        """Return the database's clock."""
        return now(self._conn)

    def list_batches(self, *, state: str | None, limit: int) -> str:
        """Return a page of batches, the newest first."""
        found = list_batches(self._conn, state=BatchState(state) if state else None, limit=limit)
        return page_text(map(batch_text, found))

    def get_batch(self, batch_id: str) -> str:
        """Return a batch."""
        return batch_text(get_batch(self._conn, batch_id))

    def create_batch(self, body: Mapping[str, Any]) -> str:
        """Make a batch and return it."""
        made = operations.create(
            self._conn,
            new_batch(body),
            sealed=not body.get("open"),
            actor=self._actor,
            defaults=self._defaults,
        )
        return batch_text(made)

    def seal_batch(self, batch_id: str) -> str:
        """Let a batch end once its members have, and return it."""
        return batch_text(operations.seal(self._conn, batch_id, actor=self._actor))

    def cancel_batch(self, batch_id: str, *, running: bool) -> str:
        """Cancel the members of a batch, and return it."""
        return batch_text(operations.cancel(self._begin, batch_id, actor=self._actor, running=running))

    def _defaults(self, job_type: str) -> Defaults:
        from ayb_jobs.cli.settings import job_defaults  # slow to import, and mostly not needed

        return job_defaults(self._options, job_type)

    @contextmanager
    def _begin(self) -> Iterator[Connection]:
        with self._conn.transaction():
            yield self._conn
