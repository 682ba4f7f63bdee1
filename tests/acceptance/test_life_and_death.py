"""The real daemon, told to stop, killed, and started many times at once."""

import signal
import time
from contextlib import ExitStack
from pathlib import Path

from psycopg import sql

from ayb_jobs.process.signals import ECHO_S
from ayb_jobs.storage.database import Connection, connect
from tests.acceptance.processes import daemon, executed, readiness
from tests.cli.conftest import Cli
from tests.eventually import eventually
from tests.factories import make_job
from tests.pgbouncer import free_port


def states(conn: Connection) -> dict[str, int]:
    return {row[0]: row[1] for row in conn.execute("SELECT state, count(*) FROM _ayb_jobs GROUP BY 1")}


def test_sigterm_under_load_uses_up_no_attempt(tmp_path: Path, database_url: str, conn: Connection) -> None:
    for _ in range(3):
        for number in range(300):
            make_job(conn, type="quick", payload={"s": 0.02} if number % 2 else {})
        before = states(conn).get("completed", 0)
        with daemon(tmp_path, database_url) as running:
            eventually(lambda: states(conn).get("completed", 0) > before + 5, within_s=30)  # used within its turn
            running.send(signal.SIGTERM)
            assert running.wait() == 0
        found = conn.execute(
            "SELECT DISTINCT state, attempts FROM _ayb_jobs WHERE state <> 'completed' OR attempts <> 1"
        ).fetchall()
        assert found in ([("queued", 0)], [])
    with daemon(tmp_path, database_url):
        eventually(lambda: states(conn) == {"completed": 900}, within_s=30)
    assert conn.execute("SELECT count(*) FROM _ayb_job_executions").fetchone() == (900,)


def test_sigterm_lets_a_handler_end_and_gives_its_attempt_back(
    tmp_path: Path, database_url: str, conn: Connection
) -> None:
    make_job(conn, type="patient")
    with executed(tmp_path, database_url) as running:
        eventually(lambda: states(conn) == {"running": 1})
        running.send(signal.SIGTERM)
        assert running.wait() == 0
    assert conn.execute("SELECT state, attempts FROM _ayb_jobs").fetchall() == [("queued", 0)]


def test_a_handler_that_runs_on_is_told_by_the_exit_code(tmp_path: Path, database_url: str, conn: Connection) -> None:
    make_job(conn, type="deaf")
    with executed(tmp_path, database_url, shutdown_timeout_s=0.5) as running:
        eventually(lambda: states(conn) == {"running": 1})
        running.send(signal.SIGTERM)
        assert running.wait() == 1
    assert states(conn) == {"running": 1}


def test_a_handler_that_ran_on_until_its_process_ended_runs_again_on_a_peer_long_before_its_lease_is_over(
    tmp_path: Path, database_url: str, conn: Connection
) -> None:
    make_job(conn, type="deaf", max_attempts=3)
    with ExitStack() as stack:
        first = stack.enter_context(daemon(tmp_path / "1", database_url, shutdown_timeout_s=0.5, lease_duration_s=600))
        eventually(lambda: states(conn) == {"running": 1})
        stack.enter_context(daemon(tmp_path / "2", database_url, shutdown_timeout_s=0.5, lease_duration_s=600))
        eventually(lambda: conn.execute(GUARDED).fetchone() == (2,))
        time.sleep(2.5)  # nobody is judged sooner after a start
        first.send(signal.SIGTERM)
        assert first.wait() == 1
        eventually(
            lambda: conn.execute("SELECT state, attempts FROM _ayb_jobs").fetchone() == ("running", 2), within_s=20
        )
    assert conn.execute("SELECT outcome FROM _ayb_job_executions").fetchall()[0] == ("lost",)


GUARDED = "SELECT count(*) FROM _ayb_job_workers WHERE guarded"


def test_a_second_signal_cuts_the_stop_short(tmp_path: Path, database_url: str, conn: Connection) -> None:
    make_job(conn, type="deaf")
    with executed(tmp_path, database_url, shutdown_timeout_s=60) as running:
        eventually(lambda: states(conn) == {"running": 1}, within_s=30)
        running.send(signal.SIGTERM)
        running.await_event("daemon.stopping")
        time.sleep(ECHO_S)  # sooner, a second signal counts as an echo of the first
        running.send(signal.SIGTERM)
        assert running.wait() == 143


def test_an_idle_daemon_leaves_nothing_behind_however_often_it_is_told(tmp_path: Path, database_url: str) -> None:
    with executed(tmp_path, database_url) as running:
        running.await_event("daemon.started")
        running.send(signal.SIGTERM)
        while running.process.poll() is None:
            running.send(signal.SIGTERM)
        assert not running.events("daemon.abandoned")


def test_a_killed_daemons_jobs_run_on_another(tmp_path: Path, database_url: str, conn: Connection) -> None:
    make_job(conn, type="patient")
    quick = [make_job(conn, type="quick") for _ in range(5)]
    with daemon(tmp_path / "a", database_url, worker_concurrency=1) as first:
        eventually(lambda: states(conn).get("running"))
        first.send(signal.SIGKILL)
        first.wait()
    conn.execute("UPDATE _ayb_jobs SET type = 'quick' WHERE type = 'patient'")
    with daemon(tmp_path / "b", database_url):
        eventually(lambda: states(conn) == {"completed": 1 + len(quick)}, within_s=30)
    lost = conn.execute("SELECT count(*) FROM _ayb_job_executions WHERE outcome = 'lost'").fetchone()
    crashes = conn.execute("SELECT sum(crashes) FROM _ayb_jobs").fetchone()
    assert lost == crashes
    assert lost is not None
    assert lost[0] >= 1


def test_a_job_that_kills_its_process_does_not_loop_for_ever(
    tmp_path: Path, database_url: str, conn: Connection
) -> None:
    job_id = make_job(conn, type="deadly", max_attempts=100)
    for _ in range(3):
        conn.execute("UPDATE _ayb_jobs SET run_at = now() WHERE state = 'queued'")
        with daemon(tmp_path, database_url, lease_duration_s=1) as running:
            assert running.wait() == 9
        conn.execute("UPDATE _ayb_jobs SET lease_until = now() - interval '1 second' WHERE state = 'running'")
        with daemon(tmp_path, database_url, handlers_modules="") as other:
            other.await_event("daemon.started")
            eventually(lambda: "running" not in states(conn))
    row = conn.execute("SELECT id, state, attempts, crashes, last_error FROM _ayb_jobs").fetchone()
    assert row is not None
    assert row[:4] == (job_id, "failed", 3, 3)
    assert "crashes used up (3 of 3)" in row[4]


def test_eight_daemons_may_start_at_once_on_an_empty_database(tmp_path: Path, empty_database_url: str) -> None:
    with ExitStack() as all_at_once:
        daemons = [
            all_at_once.enter_context(daemon(tmp_path / str(number), empty_database_url, handlers_packs="ayb"))
            for number in range(8)
        ]
        for running in daemons:
            running.await_event("daemon.started", within_s=60)
        assert sum(len(running.events("schema.migrated")) for running in daemons) == 1
        assert not [line for running in daemons for line in running.events("loop.failed")]
        with connect(empty_database_url) as conn:
            schedules = conn.execute("SELECT count(*), count(DISTINCT name) FROM _ayb_job_schedules").fetchone()
        assert schedules == (4, 4)
        for running in daemons:
            running.send(signal.SIGTERM)
        assert [running.wait() for running in daemons] == [0] * 8


def test_a_disabled_daemon_says_how_to_enable_it_and_deletes_nothing_at_once(
    tmp_path: Path, empty_database_url: str
) -> None:
    with connect(empty_database_url) as conn:
        conn.execute(
            "CREATE TABLE _ayb_webhook_deliveries (id uuid DEFAULT gen_random_uuid(), delivered_at timestamptz)"
        )
        conn.execute(
            "INSERT INTO _ayb_webhook_deliveries (delivered_at)"
            " SELECT now() - n * interval '1 day' FROM generate_series(0, 13) AS n"
        )
        with daemon(tmp_path, empty_database_url, enabled="false", handlers_packs="ayb") as running:
            assert "AYB_JOBS_ENABLED" in running.await_event("daemon.disabled")["hint"]
            running.send(signal.SIGTERM)
            assert running.wait() == 0  # a batch under way would have been ended first
        assert conn.execute("SELECT count(*) FROM _ayb_webhook_deliveries").fetchone() == (14,)
        assert conn.execute("SELECT to_regclass('_ayb_jobs')").fetchone() == (None,)


def test_a_daemon_waits_for_a_database_that_is_down(tmp_path: Path) -> None:
    with daemon(tmp_path, "postgresql://postgres@127.0.0.1:1/none") as running:
        assert running.await_event("loop.failed")["loop"] == "start-up"
        started = time.monotonic()
        running.send(signal.SIGTERM)
        assert running.wait() == 0
        assert len(running.events("loop.failed")) == 1
        assert time.monotonic() - started < 15


def test_a_migration_that_waits_for_a_lock_says_so_stops_at_once_and_goes_on_once_it_is_free(
    tmp_path: Path, database_url: str, conn: Connection
) -> None:
    conn.execute("DELETE FROM _ayb_jobs_migrations WHERE version = (SELECT max(version) FROM _ayb_jobs_migrations)")
    conn.execute("SET application_name = 'nightly report'")
    port = free_port()
    api = {"api_enabled": "true", "api_port": port}
    with (
        daemon(tmp_path / "stopped", database_url) as stopped,
        daemon(tmp_path / "patient", database_url, **api) as patient,
    ):
        with conn.transaction():
            conn.execute("LOCK TABLE _ayb_jobs, _ayb_job_workers, _ayb_job_schedules, _ayb_job_executions")
            for running in (stopped, patient):
                assert running.await_event("schema.waiting")["level"] == "warning"
            whom = f"the migration waits for a lock that the session with pid {conn.info.backend_pid}"
            eventually(lambda: whom in " ".join(readiness(port)[1]))
            assert "in a transaction that began" in " ".join(readiness(port)[1])
            health = Cli({"AYB_JOBS_ENABLED": "true", "AYB_JOBS_DATABASE_URL": database_url})("health")
            assert (health.code, whom in health.out) == (1, True)
            assert f"{conn.info.backend_pid} of the application `nightly report` holds" in health.err
            stopped.send(signal.SIGTERM)
            assert stopped.wait(10) == 0
        patient.await_event("daemon.started", within_s=60)
        assert len(patient.events("schema.migrated")) == 1


def test_a_newer_schema_is_refused_in_one_line(tmp_path: Path, database_url: str, conn: Connection) -> None:
    conn.execute(
        "INSERT INTO _ayb_jobs_migrations (version, name, checksum) VALUES (9999, 'later', 'unknown')",
    )
    with executed(tmp_path, database_url) as running:
        assert running.wait() != 0
        assert "Traceback" not in running.log_file.read_text()
        assert "9999" in running.log_file.read_text()


def test_ctrl_c_stops_it_cleanly_too(tmp_path: Path, database_url: str) -> None:
    with executed(tmp_path, database_url) as running:
        running.await_event("daemon.started")
        running.send(signal.SIGINT)
        assert running.wait() == 0
        assert running.events("daemon.stopping")[0]["reason"] == "SIGINT"


def test_sigusr1_lets_handlers_end_and_takes_no_more(tmp_path: Path, database_url: str, conn: Connection) -> None:
    with daemon(tmp_path, database_url, worker_concurrency=1, shutdown_timeout_s=0.1) as running:
        running.await_event("daemon.started")
        begun = tmp_path / "begun"
        first = make_job(conn, type="quick", payload={"s": 2, "begun": str(begun)})
        eventually(begun.exists)
        running.send(signal.SIGUSR1)
        assert running.await_event("daemon.draining")["running"] == 1
        later = make_job(conn, type="quick")
        assert running.wait() == 0
        assert running.events("daemon.stopping")[0]["running"] == 0
    assert (state_of(conn, first), state_of(conn, later)) == ("completed", "queued")


def test_a_daemon_that_an_operator_drains_lets_handlers_end_and_takes_no_more(
    tmp_path: Path, database_url: str, conn: Connection
) -> None:
    by_database = Cli({"AYB_JOBS_DATABASE_URL": database_url})
    with daemon(tmp_path, database_url, worker_concurrency=1, shutdown_timeout_s=0.1) as running:
        eventually(lambda: conn.execute("SELECT FROM _ayb_job_workers").fetchone() is not None)
        first = make_job(conn, type="quick", payload={"s": 3})
        eventually(lambda: state_of(conn, first) == "running")
        late = by_database("drain", "--wait", "0.1s")
        assert late.code == 1
        assert "drains, but still holds 1 job, after 0.1 s" in late.err
        assert running.await_event("daemon.draining", within_s=2)["reason"] == "an operator asked"
        later = make_job(conn, type="quick")
        assert by_database.ok("drain", "--wait", "1m").endswith(" has ended\n")
        assert running.wait() == 0
        assert running.events("daemon.stopping")[0]["running"] == 0
    assert (state_of(conn, first), state_of(conn, later)) == ("completed", "queued")
    assert by_database("drain").err == "ayb-jobs: no daemon is alive\n"


def test_a_daemon_serves_the_queues_and_has_the_slots_that_its_flags_say(
    tmp_path: Path, database_url: str, conn: Connection
) -> None:
    apart, served = make_job(conn, type="quick"), make_job(conn, type="quick", queue="a")
    with daemon(tmp_path, database_url, "--queues", "a,b", "--concurrency", "3", worker_concurrency=1) as running:
        started = running.await_event("daemon.started")
        assert (started["queues"], started["concurrency"]) == (["a", "b"], 3)
        eventually(lambda: state_of(conn, served) == "completed")
    assert state_of(conn, apart) == "queued"


def test_sigquit_writes_every_threads_stack_and_goes_on(tmp_path: Path, database_url: str) -> None:
    with daemon(tmp_path, database_url) as running:
        running.await_event("daemon.started")
        running.send(signal.SIGQUIT)
        eventually(lambda: "most recent call first" in running.log_file.read_text())
        assert running.process.poll() is None


def test_an_ayb_database_is_taken_over_as_it_stands(tmp_path: Path, empty_database_url: str) -> None:
    with connect(empty_database_url) as conn:
        conn.execute(AYB_TABLES)
        ids = {state: make_ayb_job(conn, state) for state in ("queued", "running", "completed", "failed", "canceled")}
        before = conn.execute(FINISHED_AYB_JOBS).fetchall()
        with daemon(tmp_path, empty_database_url):
            for state in ("queued", "running"):
                eventually(lambda: state_of(conn, ids[state]) == "completed", within_s=30)
        finished = {row[0]: row for row in conn.execute(FINISHED_AYB_JOBS).fetchall()}
        assert [finished[row[0]] for row in before] == before
        assert len(before) == 3


def state_of(conn: Connection, job_id: str) -> str:
    row = conn.execute("SELECT state FROM _ayb_jobs WHERE id = %s", (job_id,)).fetchone()
    assert row is not None
    return str(row[0])


def make_ayb_job(conn: Connection, state: str) -> str:
    """Insert a row as AYB does, then put it into a state as AYB does."""
    row = conn.execute(
        "INSERT INTO _ayb_jobs (type, payload, run_at, max_attempts, idempotency_key, schedule_id)"
        " VALUES ('quick', '{}', now(), 3, %s, NULL) RETURNING id",
        (state,),
    ).fetchone()
    assert row is not None
    changes = {
        "queued": "updated_at = now()",
        "running": "attempts = 1, lease_until = now() - interval '1 minute', worker_id = 'ayb', last_run_at = now()",
        "completed": "attempts = 1, completed_at = now()",
        "failed": "attempts = 3, last_error = 'no'",
        "canceled": "canceled_at = now()",
    }
    conn.execute(
        sql.SQL("UPDATE _ayb_jobs SET state = %s, {} WHERE id = %s").format(sql.SQL(changes[state])), (state, row[0])
    )
    return str(row[0])


FINISHED_AYB_JOBS = """
    SELECT id, type, payload, state, run_at, lease_until, worker_id, attempts, max_attempts, last_error, last_run_at,
        idempotency_key, schedule_id, created_at, updated_at, completed_at, canceled_at
    FROM _ayb_jobs
    WHERE state IN ('completed', 'failed', 'canceled')
    ORDER BY id
"""

AYB_TABLES = """
    CREATE TABLE _ayb_job_schedules (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(), name varchar(100) NOT NULL UNIQUE,
        job_type varchar(100) NOT NULL, payload jsonb NOT NULL DEFAULT '{}', cron_expr varchar(100) NOT NULL,
        timezone varchar(50) NOT NULL DEFAULT 'UTC', enabled boolean NOT NULL DEFAULT true,
        max_attempts int NOT NULL DEFAULT 3 CHECK (max_attempts >= 1), next_run_at timestamptz,
        last_run_at timestamptz, created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now());
    CREATE TABLE _ayb_jobs (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(), type varchar(100) NOT NULL,
        payload jsonb NOT NULL DEFAULT '{}', state varchar(20) NOT NULL DEFAULT 'queued'
            CHECK (state IN ('queued', 'running', 'completed', 'failed', 'canceled')),
        run_at timestamptz NOT NULL DEFAULT now(), lease_until timestamptz, worker_id varchar(100),
        attempts int NOT NULL DEFAULT 0, max_attempts int NOT NULL DEFAULT 3 CHECK (max_attempts >= 1),
        last_error text, last_run_at timestamptz, idempotency_key varchar(255),
        schedule_id uuid CONSTRAINT fk_ayb_jobs_schedule REFERENCES _ayb_job_schedules (id) ON DELETE SET NULL,
        created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now(),
        completed_at timestamptz, canceled_at timestamptz);
    CREATE INDEX idx_ayb_jobs_claimable ON _ayb_jobs (state, run_at) WHERE state = 'queued';
    CREATE INDEX idx_ayb_jobs_lease ON _ayb_jobs (state, lease_until) WHERE state = 'running';
    CREATE UNIQUE INDEX idx_ayb_jobs_idempotency ON _ayb_jobs (idempotency_key) WHERE idempotency_key IS NOT NULL;
"""
