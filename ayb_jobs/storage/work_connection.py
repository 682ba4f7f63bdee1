"""A connection that notices when a transaction on it has ended."""

from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow

IDLE = TransactionStatus.IDLE


class WorkConnection(psycopg.Connection[TupleRow]):
    """A connection lent to handlers; `times_idle` counts how often an exchange left it outside of any transaction.

    So whoever lends it for one transaction sees that SQL has ended that and begun another.
    """

    times_idle = 0

    def wait(self, *args: Any, **kwargs: Any) -> Any:
        """Exchange something with the server, as psycopg does for whatever is asked of a connection."""
        try:
            return super().wait(*args, **kwargs)
        finally:
            if self.pgconn.transaction_status == IDLE:
                self.times_idle += 1


def times_idle(conn: psycopg.Connection[TupleRow]) -> int:
    """Return how often a connection was found outside of any transaction; 0 for one that does not count."""
    return conn.times_idle if isinstance(conn, WorkConnection) else 0
