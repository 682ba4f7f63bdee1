"""Daemons on the database itself."""

from ayb_jobs.cli.backend.acting import DatabaseBackend
from ayb_jobs.operations import daemons as operations
from ayb_jobs.storage.fleet.daemons import list_daemons
from ayb_jobs.wire.daemons import daemon_text
from ayb_jobs.wire.text import page_text


class DatabaseDaemons(DatabaseBackend):
    """A `DaemonsBackend` that is the database itself."""

    def list_daemons(self) -> str:
        """Return the daemons that are alive, in the order of their start."""
        return page_text(map(daemon_text, list_daemons(self._conn)))

    def drain(self, daemon: str) -> str:
        """Ask a daemon, given by its id or a part of it, to drain, and return it."""
        return daemon_text(operations.drain(self._conn, daemon, actor=self._actor))
