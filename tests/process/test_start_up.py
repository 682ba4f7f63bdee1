"""What a daemon's start leaves behind."""

from contextlib import closing

import pytest

from ayb_jobs.config import Config, Handlers, Jobs
from ayb_jobs.config import Database as DatabaseSettings
from ayb_jobs.events import Events
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.process.signals import watched_signals
from ayb_jobs.process.start_up import StartUp
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection, Timeouts
from tests.eventually import eventually

SESSIONS = (
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'ayb-jobs' ORDER BY pid"
)


def start_up(database: Database, direct_url: str = "") -> None:
    """Do all that comes before a daemon's first lease."""
    config = Config(
        jobs=Jobs(enabled=True),
        handlers=Handlers(packs=[]),
        database=DatabaseSettings(url=database.url, direct_url=direct_url),
    )
    with watched_signals() as signals:
        assert StartUp(config, database, Registry(), Events(), signals).run()


def sessions(conn: Connection) -> list[int]:
    return [pid for (pid,) in conn.execute(SESSIONS)]


def test_a_daemon_goes_on_with_the_connection_of_its_start_as_with_any_of_its_own(
    database_url: str, conn: Connection
) -> None:
    with closing(Database(database_url, timeouts=Timeouts(statement_s=7.0))) as database:
        start_up(database)
        left = sessions(conn)
        with database.connection() as ours:
            assert left == [ours.info.backend_pid]
            shown = [ours.execute(f"SHOW {name}").fetchone() for name in ("enable_sort", "statement_timeout", "jit")]
            assert shown == [("off",), ("7s",), ("off",)]
        assert database.known_surroundings is not None


@pytest.mark.parametrize("closed_first", [True, False], ids=["closed", "another address"])
def test_a_connection_that_a_daemon_cannot_use_is_closed(
    database_url: str, conn: Connection, *, closed_first: bool
) -> None:
    with closing(Database(database_url)) as database:
        if closed_first:
            database.close()
        start_up(database, direct_url="" if closed_first else f"{database_url}&connect_timeout=9")
        eventually(lambda: not sessions(conn))
