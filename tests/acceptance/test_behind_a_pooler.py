"""The real daemon behind PgBouncer in transaction mode."""

import signal
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

from ayb_jobs.storage.database import Connection
from tests.acceptance.processes import daemon
from tests.eventually import eventually
from tests.factories import make_job
from tests.pgbouncer import PgBouncer


def all_completed(conn: Connection) -> bool:
    return conn.execute("SELECT DISTINCT state FROM _ayb_jobs").fetchall() == [("completed",)]


def test_behind_a_pooler_polling_finds_jobs_and_the_log_says_why(
    tmp_path: Path, pgbouncer: PgBouncer, database_url: str, conn: Connection
) -> None:
    for _ in range(50):
        make_job(conn, type="quick")
    with daemon(tmp_path, pgbouncer.url(database_url), poll_interval_ms=50) as running:
        eventually(lambda: all_completed(conn), within_s=30)
        make_job(conn, type="quick")
        eventually(lambda: all_completed(conn), within_s=30)
        running.send(signal.SIGTERM)
        assert running.wait() == 0
        assert len(running.events("notify.unavailable")) == 1
        assert running.events("loop.failed") == []
    assert conn.execute("SELECT count(*), max(attempt) FROM _ayb_job_executions").fetchone() == (51, 1)


def test_a_direct_address_brings_notifications_back(
    tmp_path: Path, pgbouncer: PgBouncer, database_url: str, conn: Connection
) -> None:
    listening = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'ayb-jobs-notifier' AND datname = %s"
    name = conninfo_to_dict(database_url)["dbname"]
    with daemon(
        tmp_path, pgbouncer.url(database_url), database_direct_url=database_url, poll_interval_ms=3_600_000
    ) as running:
        running.await_event("daemon.started")
        eventually(lambda: conn.execute(listening, (name,)).fetchone() == (1,))
        make_job(conn, type="quick")
        conn.execute("NOTIFY ayb_jobs")
        eventually(lambda: all_completed(conn), within_s=30)
        assert running.events("notify.unavailable") == []
