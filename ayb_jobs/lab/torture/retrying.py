"""A connection for questions that have to be answered, whatever is being done to the database meanwhile."""

import time
from collections.abc import Callable
from typing import LiteralString, TypeVar

import psycopg

from ayb_jobs.errors import DatabaseError
from ayb_jobs.storage.database import Connection, connect

T = TypeVar("T")
AGAIN_S = 0.05


class RetryingConnection:
    """Asks the database until it answers, for up to `give_up_s` seconds; then raises what kept it from answering."""

    def __init__(self, url: str, *, give_up_s: float) -> None:
        self._url = url
        self._give_up_s = give_up_s
        self._conn: Connection | None = None

    def ask(self, question: Callable[[Connection], T]) -> T:
        """Return what `question` returns of a connection. It may be asked several times."""
        give_up = time.monotonic() + self._give_up_s
        while True:
            try:
                if self._conn is None:
                    self._conn = connect(self._url, name="torture")
                return question(self._conn)
            except (psycopg.Error, DatabaseError):
                self.close()
                if time.monotonic() > give_up:
                    raise
                time.sleep(AGAIN_S)

    def number(self, statement: LiteralString) -> int:
        """Return the one number of a statement's one row."""
        row = self.ask(lambda conn: conn.execute(statement).fetchone())
        return int(row[0]) if row else 0

    def close(self) -> None:
        """Close the connection."""
        if self._conn is not None:
            self._conn.close()
        self._conn = None
