"""Batches on the database itself, open while no daemon runs."""

from collections.abc import Mapping
from typing import Any

from ayb_jobs.cli.backend.acting import EnqueueingBackend
from ayb_jobs.model.batches import BatchState
from ayb_jobs.operations import batches as operations
from ayb_jobs.storage.queue.batch_views import get_batch, list_batches
from ayb_jobs.wire.batches import batch_text, new_batch
from ayb_jobs.wire.text import page_text


class DatabaseBatches(EnqueueingBackend):
    """A `BatchesBackend` that is the database itself."""

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
        return batch_text(operations.cancel(self._step, batch_id, actor=self._actor, running=running))
