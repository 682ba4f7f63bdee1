"""Whether a database can be worked on: its engine, its encoding, writable, with the schema that we need."""

from collections.abc import Sequence
from typing import NamedTuple

from ayb_jobs.errors import MigrationError
from ayb_jobs.frozen import frozen
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.encodings import unfit_encoding
from ayb_jobs.storage.engines import unfit_engine
from ayb_jobs.storage.migrate import SchemaStatus, schema_status
from ayb_jobs.storage.rows import one_row


@frozen
class Fitness:
    """What decides whether work can be done on a database.

    `read_only` is the session's default; `unfit` says why a database of this kind is none to work on, whatever is done.
    """

    standby: bool
    read_only: bool
    schema: SchemaStatus
    unfit: Sequence[str]


class Writing(NamedTuple):
    """Why a database takes no writes: it is a `standby`, or `read_only` by the session's default."""

    standby: bool
    read_only: bool


# A transaction that reads only because its caller asked so says nothing of the database; the session's default does.
ASK_WRITING = "SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only')::boolean"


def ask_writing(conn: Connection) -> Writing:
    """Return whether the database takes writes."""
    return Writing(*one_row(conn.execute(ASK_WRITING)))


def database_fitness(conn: Connection) -> Fitness:
    """Return what decides whether work can be done on this database."""
    writing = ask_writing(conn)
    return Fitness(
        standby=writing.standby, read_only=writing.read_only, schema=schema_status(conn), unfit=unfit_kind(conn)
    )


def refuse_unfit_kind(conn: Connection) -> None:
    """Raise `MigrationError` if no daemon can ever work on a database of this kind."""
    for reason in unfit_kind(conn):
        raise MigrationError(reason)


def unfit_kind(conn: Connection) -> list[str]:
    """Return a line for each reason why a database of this kind is none to work on, whatever is done to it."""
    if reason := unfit_engine(conn):
        return [reason]
    return [reason for reason in (unfit_encoding(conn), misplaced_tables(conn)) if reason]


# Our tables as statements find them, and of those that they do not find, where else one is. The names are parameters:
# in a statement they would be given our schema.
FIND_MISPLACED = """
    WITH expected (name, found) AS (
        VALUES (%(jobs)s::name, to_regclass('_ayb_jobs')), (%(schedules)s::name, to_regclass('_ayb_job_schedules'))
    )
    SELECT relation.relname, space.nspname, quote_ident(space.nspname)
    FROM expected
    JOIN pg_catalog.pg_class AS relation ON relation.relname = expected.name
    JOIN pg_catalog.pg_namespace AS space ON space.oid = relation.relnamespace
    WHERE expected.found IS NULL AND relation.relkind IN ('r', 'p') AND relation.relpersistence <> 't'
    ORDER BY relation.relname, space.nspname
    LIMIT 1
"""


def misplaced_tables(conn: Connection) -> str | None:
    """Return what to do if a table of the queue is in another schema than statements look in; None if none is."""
    row = conn.execute(FIND_MISPLACED, {"jobs": "_ayb_jobs", "schedules": "_ayb_job_schedules"}).fetchone()
    if row is None:
        return None
    table, schema, quoted = row
    return (
        f"the table {table} is in the schema {schema}, where it is not looked for; have the search path lead there, or "
        f"move it: ALTER TABLE {quoted}.{table} SET SCHEMA public"
    )
