"""Every page on very many jobs: what it reads is bounded, whatever they are. How long each takes is printed."""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.throwaway import Databases
from tests.http.conftest import serving
from tests.http.dashboard.visiting import Guest, visiting

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
VISITS = 20
# So many rows and entries of indexes may be read for a page. Several counts end at 10,000, and lists at 20,000.
MOST_READ = 170_000
SURROUNDINGS = """
    ALTER TABLE _ayb_jobs SET (autovacuum_enabled = off);
    ALTER TABLE _ayb_job_executions SET (autovacuum_enabled = off);
    INSERT INTO _ayb_job_workers (id, host, pid, version, concurrency, queues, types)
    VALUES ('a', 'h', 1, '1', 50, '{default,mail}', '{type_0,type_1,type_2,type_3,type_4}');
    INSERT INTO _ayb_job_limits (name, types, max_running, key_max_running, set_by)
    VALUES ('few', '{type_4}', 20, 2, 'ada');
    INSERT INTO _ayb_job_pauses (kind, name, paused_by) VALUES ('queue', 'reports', 'ada'), ('type', 'type_3', 'ada');
    INSERT INTO _ayb_job_batches (id) VALUES ('00000000-0000-0000-0000-00000000000b')
"""
BEAT = "UPDATE _ayb_job_workers SET heartbeat_at = now()"
# What runs fills the limit, and has run for long.
RUNNING = """
    INSERT INTO _ayb_jobs (id, type, state, priority, attempts, last_run_at, run_at, lease_until, lease_id, execution_id, worker_id,
        limited_by, limited_key)
    SELECT gen_random_uuid(), 'type_4', 'running', 6, 1, now() - interval '1 hour', now(), now() + interval '1 hour',
        gen_random_uuid(), nextval('_ayb_job_execution_ids'), 'a', 'few', 'key-' || n / 2
    FROM generate_series(1, 40) AS n
"""
# Four fifths have completed; the rest failed, waits, is due later, or waits under a limit.
MILLION = """
    INSERT INTO _ayb_jobs (id, type, queue, priority, state, payload, attempts, created_at, run_at, last_run_at, completed_at,
        updated_at, last_error, limited_by, limited_key)
    SELECT gen_random_uuid(), CASE WHEN kind = 9 THEN 'type_4' ELSE 'type_' || n % 4 END,
        (ARRAY['default', 'mail'])[1 + n % 2], CASE WHEN kind = 9 THEN 6 ELSE 1 + n % 4 END,
        CASE WHEN kind < 16 AND kind <> 9 AND kind <> 8 THEN 'completed' WHEN kind IN (16, 8) THEN 'failed' ELSE 'queued' END,
        jsonb_build_object('n', n), 1, at, CASE WHEN kind = 19 THEN now() + interval '1 day' ELSE at END, at,
        CASE WHEN kind < 16 AND kind NOT IN (8, 9) THEN at END, at,
        CASE WHEN kind IN (16, 8) THEN format('Error%s: no answer from host-%s after %s ms', n % 7, n % 1000, n) END,
        CASE WHEN kind = 9 THEN 'few' END, CASE WHEN kind = 9 THEN 'key-' || n % 500 END
    FROM generate_series(1000000, 1, -1) AS n,
        LATERAL (SELECT n % 20 AS kind, now() - n * interval '0.3 seconds' AS at) AS row;
    INSERT INTO _ayb_job_executions (id, job_id, job_type, attempt, worker_id, outcome, started_at, ended_at)
    SELECT nextval('_ayb_job_execution_ids'), id, type, 1, 'a', 'completed', created_at, created_at + interval '50 ms'
    FROM _ayb_jobs WHERE state = 'completed'
"""
# Each is the worst for some page. The oldest rows stand first in the table, as in one that has grown.
FILL = """
    INSERT INTO _ayb_jobs (id, type, queue, priority, state, created_at, run_at, updated_at, completed_at, canceled_at, last_error,
        limited_by, limited_key, blocked_run_at, batch_id)
    SELECT gen_random_uuid(), {type}, {queue}, {priority}, {state}, at, {run_at}, at, CASE {state} WHEN 'completed' THEN at END,
        CASE {state} WHEN 'canceled' THEN at END,
        CASE {state} WHEN 'failed' THEN format('Error%s: no answer from host-%s after %s ms', n % 7, n % 1000, n) END,
        {limit}, CASE WHEN {limit} IS NOT NULL THEN 'key-' || n % 100000 END, {blocked}, {batch}
    FROM (SELECT n, now() - n * interval '1 ms' AS at FROM generate_series(200000, 1, -1) AS n) AS row
"""
COLUMNS = {
    "type": "'type_' || n % 3", "queue": "'default'", "priority": "2", "state": "'queued'", "run_at": "at", "limit": "NULL",
    "blocked": "NULL::timestamptz", "batch": "NULL::uuid",
}  # fmt: skip
SHAPES = {
    "all are due": {},
    "all are due later": {"run_at": "now() + interval '1 day'"},
    "all are due later in each priority, but for the last": {
        "priority": "1 + n % 4", "run_at": "CASE WHEN n = 1 THEN at ELSE now() + interval '1 day' END",
    },
    "no daemon knows their type": {"type": "CASE WHEN n = 1 THEN 'type_0' ELSE 'unknown' END"},
    "no daemon serves their queue": {"queue": "'elsewhere'"},
    "their queue is paused": {"queue": "'reports'"},
    "their type is paused": {"type": "'type_3'"},
    "each queue has a few": {"queue": "'queue-' || n % 20000", "priority": "1 + n % 4"},
    "all wait under one limit": {"type": "'type_4'", "priority": "6", "limit": "'few'"},
    "all wait under one limit for later": {
        "type": "'type_4'", "priority": "6", "limit": "'few'", "run_at": "now() + interval '1 day'",
    },
    "all are blocked": {"run_at": "'infinity'", "blocked": "at"},
    "all have failed": {"state": "'failed'"},
    "all are canceled, but for the first": {"state": "CASE WHEN n > 199900 THEN 'completed' ELSE 'canceled' END"},
    "all have completed, but for the last": {
        "state": "CASE WHEN n < 100 THEN 'failed' WHEN n < 200 THEN 'queued' ELSE 'completed' END",
    },
}  # fmt: skip
PAGES = (
    "/", "/jobs", "/jobs?state=waiting", "/jobs?state=waiting&type=type_1&queue=mail", "/jobs?state=waiting&type=none",
    "/jobs?state=later", "/jobs?state=later&key=none", "/jobs?state=running", "/jobs?state=failed", "/jobs?state=completed",
    "/jobs?state=canceled&type=none", "/jobs?state=failed&type=type_1&error=host-77", "/jobs?state=failed&alike=Error1: none",
    "/jobs?state=all&queue=mail", "/jobs/bulk?action=retry&type=none", "/jobs/bulk?action=cancel&type=none", "JOB", "/failures",
    "/failures?seen=ever", "/failures?seen=ever&type=none", "/schedules", "/executions", "/executions?over=day&type=type_1",
    "/executions?outcome=failed", "/queues", "/queues?limit=few", "/daemons", "/audit", "/batches",
)  # fmt: skip
LAST_JOB = "SELECT id::text FROM _ayb_jobs WHERE state <> 'running' ORDER BY created_at DESC LIMIT 1"
# A scan of a table counts the rows that it passes over, and one of an index the entries.
COUNT_READ = """
    SELECT (SELECT sum(seq_tup_read) FROM pg_stat_user_tables) + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes)
"""


@contextmanager
def filled(databases: Databases, fill: str) -> Iterator[tuple[str, Connection]]:
    """Make a database with such jobs, and what they meet: a daemon, a limit that is full, pauses."""
    with databases.migrated() as url, closing(connect(url)) as conn:
        conn.execute("SET statement_timeout = 0")
        conn.execute(SURROUNDINGS)
        conn.execute(fill)
        conn.execute(RUNNING)
        conn.execute("ANALYZE")
        yield url, conn


@contextmanager
def guest_of(url: str) -> Iterator[tuple[Guest, Database]]:
    """Visit a daemon on this database that has one connection for its pages."""
    with closing(Database(url, work_connections=1)) as db, serving(db) as server, visiting(server) as guest:
        yield guest, db


def read_so_far(conn: Connection, db: Database) -> int:
    """Return how many rows and entries were read; each session is asked to tell it."""
    with db.work() as first, db.connection() as second:
        for session in (conn, first, second):
            session.execute("SELECT pg_stat_force_next_flush()")
    row = conn.execute(COUNT_READ).fetchone()
    return int(row[0]) if row else 0


def read_by_pages(url: str, conn: Connection) -> dict[str, int]:
    """Return how much each page reads."""
    found = {}
    with guest_of(url) as (guest, db):
        for path in pages(conn):
            conn.execute(BEAT)
            before = read_so_far(conn, db)
            assert guest.client.get(path).status_code == 200, path
            found[path] = read_so_far(conn, db) - before
    return found


def pages(conn: Connection) -> list[str]:
    """Return the pages' addresses."""
    (job,) = conn.execute(LAST_JOB).fetchone() or ("",)
    return [path.replace("JOB", f"/jobs/{job}") for path in PAGES]


def test_no_page_reads_a_million_jobs(databases: Databases, capsys: pytest.CaptureFixture[str]) -> None:
    with filled(databases, MILLION) as (url, conn):
        reads = read_by_pages(url, conn)
        with guest_of(url) as (guest, _):
            took = {path: visits(guest, conn, path) for path in pages(conn)}
    with capsys.disabled():
        print(f"\n{'page on 1,000,000 jobs':<52} {'rows read':>10} {'median':>11} {'p95':>11}")
        for path, times in took.items():
            p95 = times[int(VISITS * 0.95) - 1]
            print(f"{path[:52]:<52} {reads[path]:>10,} {times[VISITS // 2]:>8,.0f} ms {p95:>8,.0f} ms")
    assert {path: rows for path, rows in reads.items() if rows > MOST_READ} == {}


def visits(guest: Guest, conn: Connection, path: str) -> list[float]:
    """Read a page again and again, and return how many milliseconds it took each time, in order of size."""
    conn.execute(BEAT)
    times = []
    for _ in range(VISITS):
        began = time.perf_counter()
        assert guest.client.get(path).status_code == 200, path
        times.append((time.perf_counter() - began) * 1000)
    return sorted(times)


@pytest.mark.parametrize("shape", SHAPES)
def test_no_page_reads_all_jobs_whatever_they_are(databases: Databases, shape: str) -> None:
    with filled(databases, FILL.format_map(COLUMNS | SHAPES[shape])) as (url, conn):
        reads = read_by_pages(url, conn)
    assert {path: rows for path, rows in reads.items() if rows > MOST_READ} == {}
