"""Limits on the database itself, open while no daemon runs."""

from ayb_jobs.cli.backend.acting import DatabaseBackend
from ayb_jobs.errors import NotFound
from ayb_jobs.model.limits import NewLimit
from ayb_jobs.operations import limits as operations
from ayb_jobs.storage.fleet.limits import find_limit, list_limits
from ayb_jobs.wire.limits import limit_text
from ayb_jobs.wire.text import page_text


class DatabaseLimits(DatabaseBackend):
    """A `LimitsBackend` that is the database itself."""

    def list_limits(self) -> str:
        """Return the limits, by name."""
        return page_text(map(limit_text, list_limits(self._conn)))

    def get_limit(self, name: str) -> str:
        """Return a limit."""
        found = find_limit(self._conn, name)
        if found is None:
            raise NotFound(f"there is no limit {name}")
        return limit_text(found)

    def set_limit(self, new: NewLimit) -> str:
        """Make a limit, or change it, and return it."""
        return limit_text(operations.put(self._conn, new, actor=self._actor))

    def remove_limit(self, name: str) -> str:
        """Remove a limit and return it as it was."""
        return limit_text(operations.remove(self._conn, name, actor=self._actor))
