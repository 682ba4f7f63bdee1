"""The real daemon behind PgBouncer: in transaction mode, and in session mode, in which it is like none."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from ayb_jobs.embedded import EmbeddedPostgres
from ayb_jobs.storage.database import Connection, connect, shares_sessions
from tests.acceptance import test_life_and_death as life
from tests.acceptance import test_schedules as schedules
from tests.acceptance.processes import daemon
from tests.eventually import eventually
from tests.factories import make_job
from tests.pgbouncer import PgBouncer

Scenario = Callable[[Path, str, Connection], None]
# Left out are those that wait for a notification, which no pooler passes on.
SCENARIOS: list[Scenario] = [
    life.test_sigterm_under_load_uses_up_no_attempt,
    life.test_sigterm_lets_a_handler_end_and_gives_its_attempt_back,
    life.test_a_handler_that_runs_on_is_told_by_the_exit_code,
    schedules.test_a_killed_schedulers_fires_are_made_up_for_by_the_next,
]
LONG: list[Scenario] = [
    life.test_a_killed_daemons_jobs_run_on_another,
    life.test_a_job_that_kills_its_process_does_not_loop_for_ever,
    life.test_a_second_signal_cuts_the_stop_short,
    life.test_a_newer_schema_is_refused_in_one_line,
]


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


@pytest.mark.parametrize(
    "scenario",
    [*SCENARIOS, *(pytest.param(scenario, marks=pytest.mark.slow) for scenario in LONG)],
    ids=lambda scenario: scenario.__name__,
)
def test_what_is_accepted_on_a_server_is_accepted_behind_a_pooler(
    scenario: Scenario, tmp_path: Path, pgbouncer: PgBouncer, database_url: str, conn: Connection
) -> None:
    scenario(tmp_path, pgbouncer.url(database_url), conn)


GUARDED = "SELECT bool_or(guarded) FROM _ayb_job_workers"


def test_in_session_mode_there_are_notifications_and_lifelines(
    tmp_path: Path, postgres: EmbeddedPostgres, database_url: str, conn: Connection
) -> None:
    with (
        PgBouncer.running(postgres, tmp_path, mode="session") as pooler,
        daemon(tmp_path, pooler.url(database_url), poll_interval_ms=3_600_000) as running,
    ):
        running.await_event("daemon.started")
        eventually(lambda: conn.execute(GUARDED).fetchone() == (True,))
        make_job(conn, type="quick")
        conn.execute("NOTIFY ayb_jobs")
        eventually(lambda: all_completed(conn), within_s=30)
        running.send(signal.SIGTERM)
        assert running.wait() == 0
        assert running.events("notify.unavailable") == []
        assert running.events("loop.failed") == []


@pytest.mark.parametrize(
    ("mode", "size", "sessions"), [("session", 20, "own"), ("transaction", 20, "shared"), ("session", 1, "shared")]
)
def test_whether_sessions_are_shared_is_found_out_by_trying(
    mode: str, size: int, sessions: str, tmp_path: Path, postgres: EmbeddedPostgres, database_url: str
) -> None:
    """Without a connection to try it with, sessions count as shared, which is always safe."""
    with (
        PgBouncer.running(postgres, tmp_path, mode=mode, size=size) as pooler,
        closing(connect(pooler.url(database_url))) as pooled,
        closing(connect(database_url)) as direct,
    ):
        assert shares_sessions(pooled) is (sessions == "shared")
        assert not shares_sessions(direct)
        assert pooled.execute("SELECT count(*) FROM pg_listening_channels()").fetchone() == (0,)


def test_eight_daemons_may_start_at_once_behind_a_pooler(
    tmp_path: Path, pgbouncer: PgBouncer, empty_database_url: str
) -> None:
    life.test_eight_daemons_may_start_at_once_on_an_empty_database(tmp_path, pgbouncer.url(empty_database_url))


def test_a_pooler_may_begin_to_share_sessions_while_a_daemon_runs(
    tmp_path: Path, postgres: EmbeddedPostgres, database_url: str, conn: Connection
) -> None:
    with (
        PgBouncer.running(postgres, tmp_path, mode="session") as pooler,
        daemon(tmp_path, pooler.url(database_url), poll_interval_ms=100) as running,
    ):
        running.await_event("daemon.started")
        make_job(conn, type="quick")
        eventually(lambda: all_completed(conn), within_s=30)
        pooler.share_sessions()
        for _ in range(100):
            make_job(conn, type="quick")
        eventually(lambda: all_completed(conn), within_s=30)
    assert conn.execute("SELECT max(attempt) FROM _ayb_job_executions").fetchone() == (1,)


def test_no_connection_runs_what_another_prepared_once_sessions_are_shared(
    tmp_path: Path, postgres: EmbeddedPostgres, database_url: str
) -> None:
    with (
        PgBouncer.running(postgres, tmp_path, mode="session") as pooler,
        closing(connect(pooler.url(database_url))) as first,
        closing(connect(pooler.url(database_url))) as second,
    ):
        for _ in range(10):  # as often as a statement is repeated that a connection prepares
            first.execute("SELECT %s::int", (1,))
            second.execute("SELECT -%s::int", (1,))
        pooler.share_sessions()
        eventually(lambda: backend(first) == backend(second))
        assert [first.execute("SELECT %s::int", (1,)).fetchone() for _ in range(3)] == [(1,)] * 3
        assert [second.execute("SELECT -%s::int", (1,)).fetchone() for _ in range(3)] == [(-1,)] * 3


def backend(conn: Connection) -> object:
    return conn.execute("SELECT pg_backend_pid()", prepare=False).fetchone()


@pytest.mark.parametrize("arguments", [["run"], ["migrate"], ["jobs", "list"]])
def test_in_statement_mode_nothing_starts_and_one_line_says_why(
    arguments: list[str], tmp_path: Path, postgres: EmbeddedPostgres, empty_database_url: str
) -> None:
    with PgBouncer.running(postgres, tmp_path, mode="statement") as pooler:
        url = pooler.url(empty_database_url)
        environ = {"AYB_JOBS_ENABLED": "true", "AYB_JOBS_API_PORT": "0"}
        program = [sys.executable, "-m", "ayb_jobs", *arguments, "--database-url", url]
        done = subprocess.run(
            program, check=False, env=os.environ | environ, cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
    assert done.returncode == 78
    assert "pool_mode = transaction or session" in done.stderr.splitlines()[-1]
