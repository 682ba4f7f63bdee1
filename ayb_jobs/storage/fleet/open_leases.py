"""Leases of workers in other languages that are not committed: they keep a pause or a limit from being in force.

Nobody sees them. Each such transaction holds a lock whose number is that of the newest pause and limit it obeys.
PostgreSQL shows locks as they are at the moment, and rows as they were when the statement began. So the locks are read
first, in a statement of their own: whoever has let go of one by then has committed, and the next statement sees it.
"""

from collections.abc import Callable, Sequence
from typing import LiteralString, NamedTuple, Protocol, TypeVar

from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.rows import one_row

READ_OPEN_BEFORE_PAUSES = """
    SELECT coalesce((SELECT max(id) FROM _ayb_job_pauses), 0), ARRAY(
        SELECT ARRAY[open.objid::bigint, open.pid]
        FROM pg_catalog.pg_locks AS open
        WHERE open.locktype = 'advisory' AND open.objsubid = 2 AND open.granted
            AND open.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
            AND open.classid = '_ayb_job_pauses'::regclass
        ORDER BY open.pid
    )
"""
READ_OPEN_BEFORE_LIMITS = READ_OPEN_BEFORE_PAUSES.replace("_ayb_job_pauses", "_ayb_job_limits")


class _OpenLeases(NamedTuple):
    newest: int
    transactions: Sequence[tuple[int, int]]

    def before(self, number: int | None) -> list[str]:
        if number is None:
            return []
        return [
            f"a transaction that has leased and is not committed (pid {pid})"
            for obeyed, pid in self.transactions
            if obeyed < number
        ]


class Numbered(Protocol):
    """A row of a pause or a limit, or of what is not paused: then its id is None."""

    @property
    def id(self) -> int | None:
        """Return the number of the pause or the limit."""
        ...


Row = TypeVar("Row", bound=Numbered)


def read_behind(
    conn: Connection, statement: LiteralString, read: Callable[[], Sequence[Row]]
) -> list[tuple[Row, list[str]]]:
    """Return what `read` returns, each row with the transactions that may have leased beside it.

    `statement` is one of the two above. A pause that came between both statements has them run again.
    """
    while True:
        leases = _OpenLeases(*one_row(conn.execute(statement)))
        rows = read()
        if all(row.id is None or row.id <= leases.newest for row in rows):
            return [(row, leases.before(row.id)) for row in rows]
