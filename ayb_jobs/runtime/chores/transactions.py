"""What chores need of a database."""

from contextlib import AbstractContextManager
from typing import Protocol

from ayb_jobs.storage.database import Connection


class Transactions(Protocol):
    """Lends connections inside a transaction."""

    def transaction(self) -> AbstractContextManager[Connection]:
        """Lend a connection inside one transaction."""
