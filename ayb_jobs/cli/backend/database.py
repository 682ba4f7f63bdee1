"""The database that a command is about."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime

from ayb_jobs.cli.backend.address import database_url, named_url
from ayb_jobs.cli.options import Options
from ayb_jobs.cli.output import one_line, patience, say
from ayb_jobs.errors import DatabaseError
from ayb_jobs.storage.clock import now
from ayb_jobs.storage.database import Connection, connect_to_primary
from ayb_jobs.storage.faults import worded_faults


@contextmanager
def database(options: Options) -> Iterator[Connection]:
    """Open the configured database; the embedded one is started for the time of the command where it is down."""
    with (
        database_url(options) as url,
        patience("asking the database …"),
        closing(connect_to_primary(url, name="ayb-jobs-cli")) as conn,
        worded_faults(),
    ):
        yield conn


class DatabaseClock:
    """The database's clock."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    def now(self) -> datetime:
        """Return the database's clock."""
        return now(self._conn)


def clock_now(options: Options) -> datetime:
    """Return the clock of the database that is named, if there is one; else this host's, which an embedded one shares.

    If the database cannot be asked, that is said, and this host's clock is returned.
    """
    if named_url(options):
        try:
            with database(options) as conn:
                return now(conn)
        except DatabaseError as error:
            say(one_line(f"this host's clock is used, since the database's cannot be asked: {error}"))
    return datetime.now(UTC)
