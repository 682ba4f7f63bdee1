"""Queues, job types and keys of limits on the database itself, open while no daemon runs."""

from ayb_jobs.cli.backend.acting import DatabaseBackend
from ayb_jobs.model.pauses import NewPause, PauseKind
from ayb_jobs.operations import queues as operations
from ayb_jobs.storage.fleet.pausable import find_pausable, list_pausable
from ayb_jobs.wire.pauses import pausable_text
from ayb_jobs.wire.text import page_text


class DatabasePauses(DatabaseBackend):
    """A `PausesBackend` that is the database itself."""

    def list_pausable(self, kind: PauseKind) -> str:
        """Return the queues, the types or the keys, by name."""
        found = list_pausable(self._conn, kind)
        return page_text(map(pausable_text, found.first), atLeast=found.more)

    def get_pausable(self, kind: PauseKind, name: str) -> str:
        """Return a queue, a type or a key."""
        return pausable_text(find_pausable(self._conn, kind, name))

    def pause(self, new: NewPause) -> str:
        """Pause a queue, a type or a key, and return it."""
        return pausable_text(operations.pause(self._conn, new, actor=self._actor))

    def resume(self, kind: PauseKind, name: str) -> str:
        """Resume a queue, a type or a key, and return it."""
        return pausable_text(operations.resume(self._conn, kind, name, actor=self._actor))
