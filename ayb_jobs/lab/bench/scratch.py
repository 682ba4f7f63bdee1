"""Databases that are made for a measurement, and dropped after it."""

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

from psycopg import sql
from psycopg.conninfo import make_conninfo

from ayb_jobs.embedded import EmbeddedPostgres
from ayb_jobs.errors import DatabaseError
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.migrate import migrate

# As safe as a server is by default, which a throwaway one is not; and with room for a burst between two checkpoints.
DURABLE = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
    "max_connections": "200",
}
MOST_AT_ONCE = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Where and how much to measure.

    `jobs` is how many jobs one round works through, `rows` how many lie in the tables of the works that need deep ones,
    `rounds` how often each side of a comparison is measured, in turn. `tell` is told what goes on.
    """

    server_url: str
    jobs: int
    rows: int
    rounds: int
    tell: Callable[[str], None]

    @contextmanager
    def database(self) -> Iterator[str]:
        """Give the address of a migrated database of its own, which does not outlive the block."""
        name = f"ayb_jobs_bench_{secrets.token_hex(6)}"
        self._administer(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            url = make_conninfo(self.server_url, dbname=name)
            with closing(connect(url)) as conn:
                migrate(conn)
            yield url
        finally:
            self._administer(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def _administer(self, statement: sql.Composed) -> None:
        with closing(connect(self.server_url)) as conn:
            try:
                conn.execute(statement)
            except Exception as error:
                raise DatabaseError(
                    f"the benchmark needs to make databases of its own on the server: {str(error).strip()}"
                ) from error


@contextmanager
def server(url: str | None) -> Iterator[str]:
    """Give the address of the server to measure on: the one named, or an embedded one for the time being."""
    if url:
        yield url
        return
    with EmbeddedPostgres.throwaway(settings=DURABLE) as embedded:
        yield embedded.url()


INSERT_JOBS = """
    INSERT INTO _ayb_jobs (id, type, payload, priority, run_at)
    SELECT _ayb_job_id(), 'noop', jsonb_build_object('n', number), %(priority)s,
        now() + %(delay_s)s * interval '1 second'
    FROM generate_series(1, %(count)s) AS number
"""


def load_jobs(url: str, count: int, *, priority: int = 2, delay_s: float = 0.0) -> None:
    """Put no-op jobs into the queue, all at one moment; nothing is analyzed, as after any bulk load."""
    with closing(connect(url)) as conn, conn.transaction():
        for batch in batches(count):
            conn.execute(INSERT_JOBS, {"count": batch, "priority": priority, "delay_s": delay_s})
        conn.execute("NOTIFY ayb_jobs")


INSERT_SPREAD = """
    INSERT INTO _ayb_jobs (id, type, payload, queue, priority)
    SELECT _ayb_job_id(), 'noop', jsonb_build_object('n', number),
        (%(queues)s::text[])[1 + number %% cardinality(%(queues)s::text[])], 1 + floor(4 * random())
    FROM generate_series(1, %(count)s) AS number
"""


def load_spread(url: str, count: int, queues: Sequence[str]) -> None:
    """Put no-op jobs of random priorities into these queues in turn, all at one moment."""
    with closing(connect(url)) as conn, conn.transaction():
        for batch in batches(count):
            conn.execute(INSERT_SPREAD, {"count": batch, "queues": list(queues)})


INSERT_FOREIGN = """
    INSERT INTO _ayb_jobs (id, type, queue, priority, run_at)
    SELECT _ayb_job_id(), 'noop', 'foreign-' || number %% 50, 1 + number %% 4, now() - interval '1 hour'
    FROM generate_series(1, %(count)s) AS number
"""


def load_foreign(url: str, count: int) -> None:
    """Put jobs into queues that nobody serves, which are due before all others."""
    with closing(connect(url)) as conn:
        no_time_limit(conn)
        for batch in batches(count):
            conn.execute(INSERT_FOREIGN, {"count": batch})


INSERT_FINISHED = """
    INSERT INTO _ayb_jobs (id, type, payload, state, attempts, last_run_at, completed_at, created_at)
    SELECT _ayb_job_id(), 'noop', jsonb_build_object('n', number), 'completed', 1, at, at, at
    FROM generate_series(1, %(count)s) AS number,
        LATERAL (SELECT now() - number * interval '10 milliseconds' AS at) AS moment
"""


def load_finished(url: str, count: int) -> None:
    """Put completed jobs into the table, as a long life leaves them there: vacuumed and analyzed."""
    with closing(connect(url)) as conn:
        for batch in batches(count):
            conn.execute(INSERT_FINISHED, {"count": batch})
    vacuum(url)


def vacuum(url: str) -> None:
    """Vacuum and analyze the jobs, as they are after a while; else the server begins to in the middle of a drain."""
    with closing(connect(url)) as conn:
        no_time_limit(conn)
        conn.execute("VACUUM (ANALYZE) _ayb_jobs")


def write_back(url: str) -> None:
    """Have the server write what was filled in to disk now, so that it does not in the middle of what is measured."""
    with closing(connect(url)) as conn:
        no_time_limit(conn)
        conn.execute("CHECKPOINT")


def no_time_limit(conn: Connection) -> None:
    """Let this connection's statements take as long as they do."""
    conn.execute("SET statement_timeout = 0")


def batches(count: int) -> Iterator[int]:
    """Split a count into parts that one statement can insert in a few seconds."""
    for first in range(0, count, MOST_AT_ONCE):
        yield min(MOST_AT_ONCE, count - first)
