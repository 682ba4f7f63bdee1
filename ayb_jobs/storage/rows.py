"""Rows that are there for certain."""

from typing import TypeVar

import psycopg

R = TypeVar("R")


def one_row(cursor: psycopg.Cursor[R]) -> R:
    """Return the row of a statement that always yields one, such as a SELECT without FROM."""
    return certain(cursor.fetchone())


def certain(row: R | None) -> R:
    """Return the row that such a statement yielded."""
    if row is None:
        raise LookupError("a statement that always yields a row yielded none")
    return row
