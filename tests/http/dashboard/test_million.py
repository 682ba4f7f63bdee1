"""Every page on 1,000,000 jobs: none reads them all, and how long each takes is printed."""

import time
from contextlib import closing

import pytest

from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.throwaway import Databases
from tests.eventually import eventually
from tests.http.conftest import serving
from tests.http.dashboard.visiting import Guest, visiting

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
VISITS = 20
# So many jobs may be read plainly for a page: the list of jobs estimates from a sample what it does not count.
MOST_READ = 200_000
# Four fifths have completed; the rest failed, waits, is due later, or waits under a limit.
FILL = """
    INSERT INTO _ayb_job_workers (id, host, pid, version, concurrency, queues, types)
    VALUES ('a', 'h', 1, '1', 50, '{default,mail}', '{type_0,type_1,type_2,type_3,type_4}');
    INSERT INTO _ayb_job_limits (name, types, max_running, key_max_running, set_by)
    VALUES ('few', '{type_4}', 20, 2, 'ada');
    INSERT INTO _ayb_jobs (id, type, queue, priority, state, payload, attempts, created_at, run_at, last_run_at, completed_at,
        updated_at, last_error, limited_by, limited_key)
    SELECT gen_random_uuid(), CASE WHEN kind = 9 THEN 'type_4' ELSE 'type_' || n % 4 END,
        (ARRAY['default', 'mail'])[1 + n % 2], CASE WHEN kind = 9 THEN 6 ELSE 1 + n % 4 END,
        CASE WHEN kind < 16 AND kind <> 9 AND kind <> 8 THEN 'completed' WHEN kind IN (16, 8) THEN 'failed' ELSE 'queued' END,
        jsonb_build_object('n', n), 1, at, CASE WHEN kind = 19 THEN now() + interval '1 day' ELSE at END, at,
        CASE WHEN kind < 16 AND kind NOT IN (8, 9) THEN at END, at,
        CASE WHEN kind IN (16, 8) THEN format('Error%s: no answer from host-%s after %s ms', n % 7, n % 1000, n) END,
        CASE WHEN kind = 9 THEN 'few' END, CASE WHEN kind = 9 THEN 'key-' || n % 500 END
    FROM generate_series(1, 1000000) AS n,
        LATERAL (SELECT n % 20 AS kind, now() - n * interval '0.3 seconds' AS at) AS row;
    INSERT INTO _ayb_jobs (id, type, state, attempts, last_run_at, run_at, lease_until, lease_id, execution_id, worker_id)
    SELECT gen_random_uuid(), 'type_0', 'running', 1, now(), now(), now() + interval '1 hour', gen_random_uuid(),
        nextval('_ayb_job_execution_ids'), 'a'
    FROM generate_series(1, 40);
    INSERT INTO _ayb_job_executions (id, job_id, job_type, attempt, worker_id, outcome, started_at, ended_at)
    SELECT nextval('_ayb_job_execution_ids'), id, type, 1, 'a', 'completed', created_at, created_at + interval '50 ms'
    FROM _ayb_jobs WHERE state = 'completed';
    ANALYZE _ayb_jobs; ANALYZE _ayb_job_executions
"""
PAGES = (
    "/", "/jobs", "/jobs?state=waiting", "/jobs?state=later", "/jobs?state=running", "/jobs?state=failed",
    "/jobs?state=completed", "/jobs?state=failed&type=type_1&error=host-77", "/jobs?state=all&queue=mail",
    "/jobs/bulk?action=retry&type=type_1", "JOB", "/failures", "/failures?seen=ever", "/schedules", "/executions",
    "/executions?over=day&type=type_1", "/queues", "/queues?limit=few", "/daemons", "/audit",
)  # fmt: skip


OTHERS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


def read_plainly(conn: Connection) -> int:
    """Return how many jobs were read without an index; sessions tell it once they have ended."""
    eventually(lambda: conn.execute(OTHERS).fetchone() == (0,))
    conn.execute("SELECT pg_stat_force_next_flush()")
    row = conn.execute("SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = '_ayb_jobs'").fetchone()
    return int(row[0]) if row else 0


def test_no_page_reads_a_million_jobs(databases: Databases, capsys: pytest.CaptureFixture[str]) -> None:
    with databases.migrated() as url, closing(connect(url)) as conn:
        conn.execute("SET statement_timeout = 0")
        conn.execute(FILL)
        (job,) = conn.execute("SELECT id::text FROM _ayb_jobs WHERE state = 'failed' LIMIT 1").fetchone() or ("",)
        before = read_plainly(conn)
        with closing(Database(url)) as db, serving(db) as server, visiting(server) as guest:
            took = {path: visits(guest, path.replace("JOB", f"/jobs/{job}")) for path in PAGES}
        with capsys.disabled():
            print(f"\n{'page on 1,000,000 jobs':<52} {'median':>8} {'p95':>8}")
            for path, times in took.items():
                print(f"{path:<52} {times[VISITS // 2]:>5,.0f} ms {times[int(VISITS * 0.95) - 1]:>5,.0f} ms")
        assert (read_plainly(conn) - before) / (len(PAGES) * VISITS) < MOST_READ


def visits(guest: Guest, path: str) -> list[float]:
    """Read a page again and again, and return how many milliseconds it took each time, in order of size."""
    times = []
    for _ in range(VISITS):
        began = time.perf_counter()
        assert guest.client.get(path).status_code == 200, path
        times.append((time.perf_counter() - began) * 1000)
    return sorted(times)
