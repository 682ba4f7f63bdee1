"""Cleanup: expired rows out of a table, beside one plain DELETE of the same rows."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import NamedTuple

from ayb_jobs.handlers.kinds.batches import Delete, delete_in_batches
from ayb_jobs.lab.bench.figures import Figure, Pair, figure, percentile
from ayb_jobs.lab.bench.scratch import Bench, batches, no_time_limit
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection, connect

TABLE = "_ayb_sessions"
EXPIRED = "expires_at < now()"
# What a built-in cleanup deletes in one transaction at most.
BATCH_SIZE = 100_000
PLAIN = "one plain DELETE"

MAKE_TABLE = """
    CREATE TABLE _ayb_sessions (
        id uuid PRIMARY KEY, user_id uuid NOT NULL, token_hash text NOT NULL, expires_at timestamptz NOT NULL
    );
    CREATE INDEX ON _ayb_sessions (user_id);
    CREATE INDEX ON _ayb_sessions (expires_at);
"""
# Every sixth session lives on.
INSERT_SESSIONS = """
    INSERT INTO _ayb_sessions (id, user_id, token_hash, expires_at)
    SELECT gen_random_uuid(), gen_random_uuid(), md5(number::text),
        now() + CASE number %% 6 WHEN 0 THEN interval '1 day' ELSE interval '-1 day' END
    FROM generate_series(1, %s) AS number
"""


class Cleaned(NamedTuple):
    """What a cleanup cost: its time, its WAL, its longest transaction, and what a writer beside it waited."""

    seconds: float
    wal_bytes: float
    longest_s: float
    writer_p99_s: float


def measure(bench: Bench) -> Iterator[Figure]:
    """Delete five sixths of a table, in batches and in one statement."""
    rounds = [
        (cleaned(bench, "in batches", delete_batches), cleaned(bench, PLAIN, delete_at_once))
        for _ in range(bench.rounds)
    ]
    units = {
        "time": ("s", 1.0),
        "WAL": ("MB", 1e-6),
        "longest transaction": ("ms", 1e3),
        "a writer's p99": ("ms", 1e3),
    }
    for number, (name, (unit, factor)) in enumerate(units.items()):
        pairs = [Pair(ours[number] * factor, plain[number] * factor) for ours, plain in rounds]
        yield figure("cleanup", f"{name}, {bench.rows:,} rows", unit, pairs, against=PLAIN)


def cleaned(bench: Bench, name: str, delete: Callable[[str], float]) -> Cleaned:
    """Fill a table, clean it up, and return what that cost."""
    with bench.database() as url, closing(connect(url)) as conn:
        bench.tell(f"cleanup: filling {bench.rows:,} rows")
        fill(conn, bench.rows)
        bench.tell(f"cleanup: {name}")
        with closing(Writer(url)) as writer:
            lsn = wal_position(conn)
            began = time.perf_counter()
            longest_s = delete(url)
            took_s = time.perf_counter() - began
        return Cleaned(took_s, wal_position(conn) - lsn, longest_s, percentile(writer.waits_s, 0.99))


def fill(conn: Connection, rows: int) -> None:
    """Make the table as a long life leaves it."""
    no_time_limit(conn)
    conn.execute(MAKE_TABLE)
    for count in batches(rows):
        conn.execute(INSERT_SESSIONS, (count,))
    conn.execute("VACUUM (ANALYZE) _ayb_sessions")
    conn.execute("CHECKPOINT")


def wal_position(conn: Connection) -> int:
    """Return how many bytes of WAL were ever written."""
    row = conn.execute("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint").fetchone()
    return row[0] if row else 0


def delete_batches(url: str) -> float:
    """Delete as the built-in cleanups do; return the longest transaction in seconds."""
    longest_s = 0.0
    with closing(Database(url)) as database:
        began = time.perf_counter()
        for _ in delete_in_batches(database.transaction, Delete(table=TABLE, where=EXPIRED, batch_size=BATCH_SIZE), {}):
            longest_s = max(longest_s, time.perf_counter() - began)
            began = time.perf_counter()
    return longest_s


def delete_at_once(url: str) -> float:
    """Delete in one statement; return how long its transaction took."""
    with closing(connect(url)) as conn:
        no_time_limit(conn)
        began = time.perf_counter()
        conn.execute("DELETE FROM _ayb_sessions WHERE expires_at < now()")
        return time.perf_counter() - began


class Writer:
    """Inserts sessions beside a cleanup, each in a commit of its own, until closed; keeps how long each took."""

    def __init__(self, url: str) -> None:
        self.waits_s: list[float] = []
        self._url = url
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop writing."""
        self._closing.set()
        self._thread.join()

    def _write(self) -> None:
        with closing(connect(self._url)) as conn:
            while not self._closing.is_set() or not self.waits_s:
                began = time.perf_counter()
                conn.execute(INSERT_SESSIONS, (1,))
                self.waits_s.append(time.perf_counter() - began)
                self._closing.wait(0.002)
