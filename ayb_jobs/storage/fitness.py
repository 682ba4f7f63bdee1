"""Whether a database can be worked on: writable, not a standby, and with the schema that this program needs."""

from dataclasses import dataclass

from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.migrate import SchemaStatus, schema_status


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitness:
    """What decides whether work can be done on a database. `read_only` is the session's default."""

    standby: bool
    read_only: bool
    schema: SchemaStatus


# A transaction that reads only because its caller asked so says nothing of the database; the session's default does.
ASK_FITNESS = "SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only')::boolean"


def database_fitness(conn: Connection) -> Fitness:
    """Return what decides whether work can be done on this database."""
    standby, read_only = conn.execute(ASK_FITNESS).fetchone() or (False, False)
    return Fitness(standby=standby, read_only=read_only, schema=schema_status(conn))
