"""The database's clock, by which everything is reckoned."""

from datetime import datetime

from ayb_jobs.storage.database import Connection

NOW = "SELECT now()"


def now(conn: Connection) -> datetime:
    """Return when the transaction that `conn` is in began; outside of one, the time of this call."""
    at: datetime = conn.execute(NOW).fetchall()[0][0]
    return at
