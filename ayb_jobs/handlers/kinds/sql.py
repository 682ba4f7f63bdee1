"""Job types that run SQL statements: `statements`, all in one transaction, or each by itself."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from psycopg import Cursor, sql
from psycopg.rows import TupleRow

from ayb_jobs.config import JobTypeSettings
from ayb_jobs.config.section import Fault, setting
from ayb_jobs.handlers.context import JobContext
from ayb_jobs.handlers.job_type import Handler
from ayb_jobs.handlers.kinds.kind import Kind
from ayb_jobs.handlers.kinds.parameters import bound, placeholder_faults
from ayb_jobs.handlers.statements import ended_alone, ended_with
from ayb_jobs.model.results import Result

CHANGES = frozenset({"INSERT", "UPDATE", "DELETE", "MERGE"})


class SqlSettings(JobTypeSettings):
    """`[job_types.NAME]`: SQL statements."""

    statements: list[str] = setting([], "SQL statements, run in order; `%(name)s` is bound to the payload's `name`.")
    transaction: bool = setting(
        True,
        "Run the statements in one transaction, all or nothing. `false`: each by itself, for `VACUUM`,"
        " `CREATE INDEX CONCURRENTLY` and procedures that commit.",
    )

    def contradictions(self) -> Iterator[Fault]:
        """Refuse a job that does nothing, and SQL that cannot run."""
        yield from super().contradictions()
        if not self.statements:
            yield (), "does nothing; give `statements`"
        for number, statement in enumerate(self.statements, 1):
            yield from placeholder_faults(("statements",), statement, self.payload, f"number {number} ")


def sql_handler(settings: SqlSettings) -> Handler:
    """Return what runs these statements."""
    return partial(run_together if settings.transaction else run_each, settings.statements, settings.payload)


SQL = Kind(name="sql", settings=SqlSettings, keys="`statements`", handler=sql_handler)


def run_together(statements: Sequence[str], defaults: Mapping[str, Any], ctx: JobContext) -> Result:
    """Run the statements in one transaction, so that an attempt does all or nothing.

    Return how many rows they changed.
    """
    parameters = bound(ctx.payload, defaults)
    changed = 0
    with ctx.connection() as conn, ended_with(ctx, conn):
        for statement in statements:
            ctx.check()
            changed += changed_rows(conn.execute(sql.SQL(statement), parameters, prepare=False))
    return changed


def run_each(statements: Sequence[str], defaults: Mapping[str, Any], ctx: JobContext) -> Result:
    """Run each statement by itself, outside of any transaction; return how many rows they changed.

    Before each the lease is extended, so that no statement begins if another daemon may have the job. What a statement
    has done stays, even if a later one fails; another attempt begins with the first.
    """
    parameters = bound(ctx.payload, defaults)
    ctx.records_processed = 0
    for statement in statements:
        ctx.check()
        ctx.progress()
        with ctx.connection_without_transaction() as conn, ended_alone(ctx, conn):
            ctx.records_processed += changed_rows(conn.execute(sql.SQL(statement), parameters, prepare=False))
    return ctx.records_processed


def changed_rows(cursor: Cursor[TupleRow]) -> int:
    """Return how many rows a statement changed; what a SELECT found is not counted."""
    command = (cursor.statusmessage or "").partition(" ")[0]
    return max(0, cursor.rowcount) if command in CHANGES else 0
