"""The sick database: what is wrong with its rows, its tables, its server, and who holds it up meanwhile."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from importlib.resources import files

import psycopg

from ayb_jobs.storage.database import Connection

# A replication slot that holds old rows needs the log that it would read.
SERVER: Mapping[str, str] = {"wal_level": "logical", "max_connections": "100"}
# Four fifths of the server's connections are worth a word. The rest is for the daemon, and for whoever looks.
SESSIONS = 80


@contextmanager
def sick(conn: Connection, url: str) -> Iterator[None]:
    """Make a migrated database sick for the time of the block, on a server of its own that has the settings `SERVER`.

    Its daemons are made up; its sessions are real, and hold what they hold until the block ends.
    """
    for name in ("sick.sql", "altered.sql"):
        conn.execute(files(__package__).joinpath(name).read_bytes())
    conn.execute("SELECT pg_stat_force_next_flush()")
    _leave_half_built(conn)
    conn.execute("SELECT pg_create_logical_replication_slot('warehouse', 'pgoutput')")
    with ExitStack() as open_sessions:
        for _ in range(SESSIONS):
            open_sessions.enter_context(closing(psycopg.connect(url, application_name="shop")))
        _hold_a_job(open_sessions.enter_context(closing(psycopg.connect(url, application_name="console"))))
        yield


def _leave_half_built(conn: Connection) -> None:
    """Leave an index that the server could not build, since there is more than one execution of a type."""
    with suppress(psycopg.errors.UniqueViolation):
        conn.execute("CREATE UNIQUE INDEX CONCURRENTLY idx_one_execution_each ON _ayb_job_executions (job_type)")


def _hold_a_job(console: "psycopg.Connection[tuple[object, ...]]") -> None:
    """Lock the job that lost its daemon, as somebody does who looked at it and left."""
    console.execute("SELECT FROM _ayb_jobs WHERE id = '01890000-0000-7000-8000-0000000000aa' FOR UPDATE")
