"""Whether a database can be worked on: writable, not a standby, and with the schema that this program needs."""

from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.migrate import schema_status

# A transaction that reads only because its caller asked so says nothing of the database; the session's default does.
ASK_FITNESS = "SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only')::boolean"


def database_unfitness(conn: Connection) -> list[str]:
    """Return a line for each reason why no work can be done on this database."""
    row = conn.execute(ASK_FITNESS).fetchone()
    standby, read_only = row or (False, False)
    reasons = []
    if standby:
        reasons.append("the database is a standby; work needs the primary")
    elif read_only:
        reasons.append("the database is read-only")
    schema = schema_status(conn)
    if not schema.is_current:
        reasons.append(f"the schema is version {schema.version}, and {schema.needed} is needed; run ayb-jobs migrate")
    return reasons
