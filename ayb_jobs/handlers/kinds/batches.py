"""Deletes rows from a table of any size in batches, each its own short transaction.

A table is walked once, from its first block to what was its last when the walk began: `DELETE … WHERE ctid >= … AND
ctid < …`. (`DELETE … LIMIT n` repeated until nothing is left looks simpler, but each turn walks again over all rows
that the turns before it deleted.) The range grows and shrinks so that a transaction takes about `TARGET_S`.

Where the planner would find the rows by an index and expects few, walking the whole table would be a waste: their
places are read once, and deleted in batches.

Rows that somebody else has locked are left for the next run.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from psycopg import Cursor, errors, sql
from psycopg.rows import TupleRow

from ayb_jobs.errors import NotFound
from ayb_jobs.frozen import frozen
from ayb_jobs.handlers.owners import refuse_anothers
from ayb_jobs.storage.database import Connection

# How long one batch should take: long enough that its overhead is small, short enough that nobody waits for it.
TARGET_S = 0.075
# A batch that meets a lock gives up after this, before PostgreSQL looks for deadlocks, and passes the locked rows over.
ROW_LOCK_WAIT_S = 0.1
# How long to wait for a lock on the table itself, which cannot be passed over.
TABLE_LOCK_WAIT_S = 5.0
# So many rows are read by an index before they are deleted; beyond that the table is walked.
FEW_ROWS = 20_000
FIRST_SPAN = 5_000

Borrow = Callable[[], AbstractContextManager[Connection]]
Parameters = Mapping[str, Any]


class TableMissing(NotFound):
    """There is no such table."""


@frozen
class Delete:
    """Which rows to delete: those of `table` for which `where` holds, at most `batch_size` in one transaction.

    `table` is a name as the database stores it, with its schema and a dot before it where wanted. `where` is SQL that
    its author trusts; it may have parameters such as `%(hours)s`. A `built_in` one takes no table of an untrusted role.
    """

    table: str
    where: str
    batch_size: int
    built_in: bool = False


class Part(NamedTuple):
    """A table that holds rows itself: a plain table, or one partition. Only `in_blocks` ones can be walked."""

    schema: str
    name: str
    in_blocks: bool
    blocks: int
    rows_per_block: int


def delete_in_batches(borrow: Borrow, delete: Delete, parameters: Parameters) -> Iterator[int]:
    """Delete the rows, yielding after each committed batch how many it deleted, which may be none.

    `borrow` lends a connection for one transaction at a time. Whoever stops iterating stops the deleting.
    Raises `TableMissing` where there is no such table, `AnothersTable` if it is not one for a built-in job.
    """
    for part in find_parts(borrow, delete):
        table = _Table(borrow, delete, parameters, part)
        if not part.in_blocks:
            yield table.delete_at_once()
        elif table.has_few_rows_to_delete():
            yield from table.delete_few()
        else:
            yield from table.walk()


# The condition of a cleanup is its author's, and means what his search path makes of it. What is ours of a statement
# names the schema of each operator, so that nobody who may create operators on that path has one of his run here.
FIND_PARTS = """
    WITH RECURSIVE part AS (
        SELECT pg_catalog.to_regclass(%(table)s)::pg_catalog.oid AS oid
        UNION
        SELECT inhrelid FROM pg_catalog.pg_inherits JOIN part ON inhparent OPERATOR(pg_catalog.=) part.oid
    )
    SELECT
        nspname, relname, relkind::pg_catalog.text,
        relkind OPERATOR(pg_catalog.=) 'r' AND amname OPERATOR(pg_catalog.=) 'heap' AS in_blocks,
        pg_catalog.pg_relation_size(held.oid), pg_catalog.current_setting('block_size')::int
    FROM part
    JOIN pg_catalog.pg_class AS held ON held.oid OPERATOR(pg_catalog.=) part.oid
    JOIN pg_catalog.pg_namespace AS space ON space.oid OPERATOR(pg_catalog.=) relnamespace
    LEFT JOIN pg_catalog.pg_am AS method ON method.oid OPERATOR(pg_catalog.=) relam
    ORDER BY part.oid
"""


def find_parts(borrow: Borrow, delete: Delete) -> list[Part]:
    """Return the table, or its partitions and inheriting tables. Raises `TableMissing` where there is none.

    A block of n bytes has a header of 24, and a row takes at least 28: no block ever holds more rows than that.
    """
    with borrow() as conn:
        rows = conn.execute(FIND_PARTS, {"table": identifier(delete.table).as_string(conn)}).fetchall()
        if not rows:
            raise TableMissing(f"there is no table {delete.table}")
        if delete.built_in:
            for schema, name, *_ in rows:
                refuse_anothers(conn, schema, name)
    return [
        Part(schema, name, bool(in_blocks), (size or 0) // block, (block - 24) // 28)
        for schema, name, kind, in_blocks, size, block in rows
        if kind != "p"
    ]


def identifier(table: str) -> sql.Identifier:
    """Return a table's name, with or without its schema, quoted for SQL."""
    return sql.Identifier(*table.split("."))


DELETE_AT_ONCE = sql.SQL("DELETE FROM ONLY {table} AS {alias} WHERE ({where})")

EXPLAIN_ROWS = sql.SQL("EXPLAIN (FORMAT JSON) SELECT FROM ONLY {table} AS {alias} WHERE ({where})")

FIND_ROWS = sql.SQL("SELECT ctid::pg_catalog.text FROM ONLY {table} AS {alias} WHERE ({where}) LIMIT {limit}")

# CASE keeps the planner from an index on the condition, by which each batch would find the rows of all batches.
DELETE_PLACES = sql.SQL("""
    DELETE FROM ONLY {table} AS {alias} WHERE {places} AND CASE WHEN ({where}) THEN true END
""")

DELETE_UNLOCKED = sql.SQL("""
    DELETE FROM ONLY {table} AS {alias} WHERE ctid OPERATOR(pg_catalog.=) ANY (ARRAY (
        SELECT ctid FROM ONLY {table} AS {alias} WHERE {places} AND CASE WHEN ({where}) THEN true END
        FOR UPDATE SKIP LOCKED
    ))
""")

RANGE = sql.SQL("ctid OPERATOR(pg_catalog.>=) {}::pg_catalog.tid AND ctid OPERATOR(pg_catalog.<) {}::pg_catalog.tid")
LISTED = sql.SQL("ctid OPERATOR(pg_catalog.=) ANY ({}::pg_catalog.tid[])")


class _Table:
    """The deleting from one table."""

    def __init__(self, borrow: Borrow, delete: Delete, parameters: Parameters, part: Part) -> None:
        self.borrow = borrow
        self.batch_size = delete.batch_size
        self.parameters = parameters
        self.part = part
        self.alias = delete.table.split(".")[-1]
        self.names = {
            "table": sql.Identifier(part.schema, part.name),
            # A condition may name the table, and a partition's own name is none that its author knows.
            "alias": sql.Identifier(self.alias),
            # On lines of its own, so that a comment at its end hides nothing of ours.
            "where": sql.SQL(f"\n{delete.where}\n"),
        }

    def delete_at_once(self) -> int:
        """Delete in one statement, since a view or a foreign table has no blocks that could be walked."""
        with self.borrow() as conn:
            return self.run(conn, DELETE_AT_ONCE, TABLE_LOCK_WAIT_S).rowcount

    def has_few_rows_to_delete(self) -> bool:
        """Tell whether the planner expects few rows, and would find them by an index."""
        with self.borrow() as conn:
            row = self.run(conn, EXPLAIN_ROWS, TABLE_LOCK_WAIT_S).fetchone()
        plan = row[0][0]["Plan"] if row else {}
        return plan["Plan Rows"] <= FEW_ROWS and not reads_all_of(plan, self.alias)

    def delete_few(self) -> Iterator[int]:
        """Delete what an index finds; where that is more than few after all, walk for the rest."""
        with self.borrow() as conn:
            rows = self.run(conn, FIND_ROWS, TABLE_LOCK_WAIT_S, limit=sql.Literal(FEW_ROWS)).fetchall()
        places = [place for (place,) in rows]
        for first in range(0, len(places), self.batch_size):
            yield self.delete_unlocked(LISTED.format(sql.Literal(places[first : first + self.batch_size])))
        if len(rows) == FEW_ROWS:
            yield from self.walk()

    def walk(self) -> Iterator[int]:
        """Delete range by range.

        A place is counted as if each block held as many rows as it ever can, so that a range of n places never holds
        more than n rows.
        """
        place, end = 0, self.part.blocks * self.part.rows_per_block
        span = min(FIRST_SPAN, self.batch_size)
        while place < end:
            started = time.monotonic()
            deleted = self.delete_range(place, place + span)
            took_s = time.monotonic() - started
            yield deleted
            place += span
            span = next_span(span, took_s, self.batch_size)

    def delete_range(self, start: int, end: int) -> int:
        """Delete what lies between two places; rows that others have locked stay."""
        places = RANGE.format(sql.Literal(self.tid(start)), sql.Literal(self.tid(end)))
        try:
            with self.borrow() as conn:
                return self.run(conn, DELETE_PLACES, ROW_LOCK_WAIT_S, places=places).rowcount
        except errors.LockNotAvailable:
            return self.delete_unlocked(places)

    def delete_unlocked(self, places: sql.Composable) -> int:
        """Delete the rows at these places that nobody has locked."""
        with self.borrow() as conn:
            return self.run(conn, DELETE_UNLOCKED, TABLE_LOCK_WAIT_S, places=places).rowcount

    def run(
        self, conn: Connection, statement: sql.SQL, lock_wait_s: float, **parts: sql.Composable
    ) -> Cursor[TupleRow]:
        """Run a statement; it is planned for these very parameters, and leaves nothing on a pooled connection."""
        conn.execute(LIMIT_BATCH, (f"{int(lock_wait_s * 1000)}ms",))
        return conn.execute(statement.format(**self.names, **parts), self.parameters, prepare=False)

    def tid(self, place: int) -> str:
        """Return a place as PostgreSQL writes it: the block and the row in it, from 1."""
        block, row = divmod(place, self.part.rows_per_block)
        return f"({block},{row + 1})"


# No wait for the disk at each commit: the commit that records the job's end makes all of them durable.
LIMIT_BATCH = """
    SELECT pg_catalog.set_config('lock_timeout', %s, true), pg_catalog.set_config('synchronous_commit', 'off', true)
"""


def next_span(span: int, took_s: float, most: int) -> int:
    """Return how many places the next batch covers, so that it takes about `TARGET_S`: at most twice as many."""
    factor = min(2.0, max(0.25, TARGET_S / max(took_s, 0.001)))
    return max(1, min(most, int(span * factor)))


def reads_all_of(plan: Mapping[str, Any], alias: str) -> bool:
    """Tell whether a plan reads every row of the table called `alias`."""
    if plan["Node Type"] == "Seq Scan" and plan.get("Alias") == alias:
        return True
    children: Sequence[Mapping[str, Any]] = plan.get("Plans", ())
    return any(reads_all_of(child, alias) for child in children)
