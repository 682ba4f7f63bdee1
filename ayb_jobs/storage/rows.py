"""What statements return of rows."""

from typing import Any, NamedTuple, TypeVar

import psycopg
from psycopg.rows import namedtuple_row

R = TypeVar("R")


def one_row(cursor: psycopg.Cursor[R]) -> R:
    """Return the row of a statement that always yields one, such as a SELECT without FROM."""
    return certain(cursor.fetchone())


def certain(row: R | None) -> R:
    """Return the row that such a statement yielded."""
    if row is None:
        raise LookupError("a statement that always yields a row yielded none")
    return row


class Deleted(NamedTuple):
    """How many rows a statement removed, and how many more it found, which a trigger of the application's kept."""

    rows: int = 0
    kept: int = 0


def named(conn: psycopg.Connection[Any]) -> psycopg.Cursor[Any]:
    """Return a cursor whose rows have the names of their columns. For whatever is not done for each job."""
    return conn.cursor(row_factory=namedtuple_row)
