"""Whether a database can be worked on: its kind, its encoding, writable, and with the schema that this program needs."""

from collections.abc import Sequence
from dataclasses import dataclass

from ayb_jobs.errors import MigrationError
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.encodings import unfit_encoding
from ayb_jobs.storage.migrate import SchemaStatus, schema_status


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitness:
    """What decides whether work can be done on a database.

    `read_only` is the session's default; `unfit` says why a database of this kind is none to work on, whatever is done.
    """

    standby: bool
    read_only: bool
    schema: SchemaStatus
    unfit: Sequence[str]


# A transaction that reads only because its caller asked so says nothing of the database; the session's default does.
ASK_FITNESS = "SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only')::boolean"


def database_fitness(conn: Connection) -> Fitness:
    """Return what decides whether work can be done on this database."""
    standby, read_only = conn.execute(ASK_FITNESS).fetchone() or (False, False)
    return Fitness(standby=standby, read_only=read_only, schema=schema_status(conn), unfit=unfit_kind(conn))


def refuse_unfit_kind(conn: Connection) -> None:
    """Raise `MigrationError` if no daemon can ever work on a database of this kind."""
    for reason in unfit_kind(conn):
        raise MigrationError(reason)


def unfit_kind(conn: Connection) -> list[str]:
    """Return a line for each reason why a database of this kind is none to work on, whatever is done to it."""
    return [reason for reason in (unfit_encoding(conn),) if reason]
