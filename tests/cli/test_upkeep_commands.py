"""`ayb-jobs migrate` and `ayb-jobs health`."""

import json
import socket
from contextlib import closing

import pytest

from ayb_jobs.cli.exits import ExitCode
from ayb_jobs.model.daemons import Worker
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.fleet.daemons import beat
from ayb_jobs.storage.migrate import shipped_migrations
from tests.cli.conftest import Cli

NAMES = [migration.name for migration in shipped_migrations()]


@pytest.fixture
def empty_cli(empty_database_url: str) -> Cli:
    """The command line on a database with nothing in it."""
    return Cli({"AYB_JOBS_DATABASE_URL": empty_database_url})


def beat_from(conn: Connection, host: str) -> None:
    beat(conn, Worker(id=f"w-{host}", host=host, pid=1, version="1", concurrency=1, queues=["default"], types=["a"]))


def test_a_plan_is_told_and_nothing_is_done(empty_cli: Cli, empty_database_url: str) -> None:
    assert empty_cli.ok("migrate", "--plan").splitlines() == [f"would apply {name}" for name in NAMES]
    assert json.loads(empty_cli.ok("migrate", "--plan", "--json")) == {"migrations": NAMES}
    with closing(connect(empty_database_url)) as conn:
        assert conn.execute("SELECT to_regclass('_ayb_jobs')").fetchone() == (None,)


def test_a_second_run_has_nothing_to_do(empty_cli: Cli) -> None:
    assert empty_cli.ok("migrate").splitlines() == [f"applied {name}" for name in NAMES]
    assert "up to date" in empty_cli.ok("migrate")
    assert "up to date" in empty_cli.ok("migrate", "--plan")
    assert json.loads(empty_cli.ok("migrate", "--json")) == {"migrations": []}
    empty_cli.ok("jobs", "list")


def test_what_an_operator_should_know_is_noted(empty_cli: Cli, empty_database_url: str) -> None:
    with closing(connect(empty_database_url)) as conn:
        conn.execute("CREATE TABLE job_execution (id int)")
    said = empty_cli("migrate")
    assert said.code == ExitCode.OK
    assert "note: a relation named job_execution exists already" in said.err


@pytest.mark.parametrize("command", ["migrate", "migrate --plan"])
def test_a_newer_schema_is_refused(database_cli: Cli, conn: Connection, command: str) -> None:
    conn.execute("INSERT INTO _ayb_jobs_migrations (version, name, checksum) VALUES (9999, '9999_future', '')")
    said = database_cli(*command.split())
    assert (said.code, said.out) == (ExitCode.CONFIG, "")
    assert "newer ayb-jobs" in said.err


def test_work_can_be_done_where_a_daemon_is_alive(database_cli: Cli, conn: Connection) -> None:
    said = database_cli("health")
    assert (said.code, said.out) == (ExitCode.FAILED, "no daemon is alive: it stopped, or has been silent for 60 s\n")
    beat_from(conn, "elsewhere")
    assert database_cli.ok("health") == "ok\n"
    assert json.loads(database_cli.ok("health", "--json")) == {"status": "ok", "reasons": []}
    conn.execute("UPDATE _ayb_job_workers SET heartbeat_at = now() - interval '2 minutes'")
    assert database_cli("health").code == ExitCode.FAILED


def test_a_probe_may_ask_for_its_own_host(database_cli: Cli, conn: Connection) -> None:
    beat_from(conn, "elsewhere")
    said = database_cli("health", "--this-host", "--json")
    assert said.code == ExitCode.FAILED
    assert json.loads(said.out) == {
        "status": "failing",
        "reasons": ["no daemon is alive on this host: it stopped, or has been silent for 60 s"],
    }
    beat_from(conn, socket.gethostname())
    assert database_cli.ok("health", "--this-host") == "ok\n"


def test_a_schema_that_is_behind_is_a_reason(empty_cli: Cli) -> None:
    said = empty_cli("health", AYB_JOBS_ENABLED="true")
    assert said.code == ExitCode.FAILED
    assert "run ayb-jobs migrate" in said.out


def test_where_jobs_are_disabled_a_database_is_enough(empty_cli: Cli) -> None:
    said = empty_cli("health", AYB_JOBS_ENABLED="false")
    assert (said.code, said.out) == (ExitCode.OK, "ok\n")
    assert "jobs are disabled here" in said.err


def test_the_api_says_whether_its_daemon_is_ready(api_cli: Cli, conn: Connection) -> None:
    api_cli.environ.pop("AYB_JOBS_ADMIN_TOKEN")
    assert api_cli.ok("health") == "ok\n"
    conn.execute("DELETE FROM _ayb_jobs_migrations WHERE version > 1")
    said = api_cli("health", "--json")
    assert said.code == ExitCode.FAILED
    assert "migrate" in json.loads(said.out)["reasons"][0]
