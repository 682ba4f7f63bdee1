"""`ayb-jobs migrate` and `ayb-jobs health`."""

import json
import socket
import time
from contextlib import closing
from pathlib import Path

import pytest

from ayb_jobs.cli.exits import ExitCode
from ayb_jobs.cli.options import Options
from ayb_jobs.cli.settings import place_words, settings
from ayb_jobs.embedded import DEFAULT_HOME
from ayb_jobs.model.daemons import DaemonRecord
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.fleet.daemons import beat
from ayb_jobs.storage.migrations import shipped_migrations
from tests.ayb_database import make_ayb_database
from tests.cli.conftest import Cli
from tests.factories import make_job

NAMES = [migration.name for migration in shipped_migrations()]


@pytest.fixture
def empty_cli(empty_database_url: str) -> Cli:
    """The command line on a database with nothing in it."""
    return Cli({"AYB_JOBS_DATABASE_URL": empty_database_url})


def beat_from(conn: Connection, host: str) -> None:
    beat(
        conn,
        DaemonRecord(id=f"w-{host}", host=host, pid=1, version="1", concurrency=1, queues=["default"], types=["a"]),
    )


def test_a_plan_is_told_and_nothing_is_done(empty_cli: Cli, empty_database_url: str) -> None:
    lines = empty_cli.ok("migrate", "--plan").splitlines()
    assert [line for line in lines if line.startswith("would")] == [f"would apply {name}" for name in NAMES]
    (tables,) = (line for line in lines if "tables:" in line)
    assert "_ayb_job_executions" in tables
    assert not any("nobody else can use it" in line for line in lines)
    told = json.loads(empty_cli.ok("migrate", "--plan", "--json"))
    assert (told["migrations"], told["locks"], told["rows"]) == (NAMES, [], [])
    assert "_ayb_jobs" in told["makes"]["table"]
    assert empty_cli("migrate", "--adopt-check").code == ExitCode.OK
    with closing(connect(empty_database_url)) as conn:
        assert conn.execute("SELECT to_regclass('_ayb_jobs')").fetchone() == (None,)


TYPE = "INSERT INTO _ayb_jobs (type) VALUES ('theirs')"
HISTORY = """
    INSERT INTO _ayb_jobs (type, state, completed_at)
    SELECT 'x', 'completed', now() - interval '31 days' FROM generate_series(1, 3)
"""
MATTERS = {
    "an unknown type": (TYPE, "decide: the job type theirs is not known here (waiting jobs: 1)."),
    "an unknown type of a schedule": (
        "INSERT INTO _ayb_job_schedules (name, job_type, cron_expr) VALUES ('hourly', 'theirs', '0 * * * *')",
        "decide: the job type theirs is not known here (waiting jobs: 0; schedules that make more: hourly).",
    ),
    "a broken schedule": (
        "INSERT INTO _ayb_job_schedules (name, job_type, cron_expr) VALUES ('odd', 'stale_session_cleanup', 'often')",
        "decide: the schedule odd cannot be read and will not fire: cron expression 'often'",
    ),
    "a living lease": (
        "INSERT INTO _ayb_jobs (type, state, lease_until) VALUES ('x', 'running', now() + interval '1 hour')",
        "decide: jobs that run under a lease that lives: 1. Another runner is at work: stop it first",
    ),
    "history": (
        HISTORY,
        "decide: completed jobs that ended more than 720 h ago: 3. Retention removes them after a day's notice",
    ),
    "an expired lease": (
        "INSERT INTO _ayb_jobs (type, state, lease_until) VALUES ('x', 'running', now() - interval '1 hour')",
        "note: jobs left running whose lease is over: 1. They will run again.",
    ),
    "a table of another shape": (
        "ALTER TABLE _ayb_jobs ALTER run_at TYPE timestamp",
        "decide: _ayb_jobs.run_at is timestamp without time zone; it has to be timestamp with time zone",
    ),
    "due jobs": (
        "INSERT INTO _ayb_jobs (type) VALUES ('stale_session_cleanup')",
        "note: jobs due now: 1. They start as soon as a daemon does.",
    ),
}


@pytest.mark.parametrize("matter", MATTERS)
def test_the_check_of_an_adoption_says_what_rows_mean_and_what_has_to_be_decided(
    empty_cli: Cli, empty_database_url: str, matter: str
) -> None:
    make_ayb_database(empty_database_url)
    assert empty_cli("migrate", "--adopt-check").code == ExitCode.OK
    insert, words = MATTERS[matter]
    with closing(connect(empty_database_url)) as conn:
        conn.execute(insert.encode())
        said = empty_cli("migrate", "--adopt-check")
        assert said.code == (ExitCode.FAILED if words.startswith("decide") else ExitCode.OK)
        assert words in said.out
        assert empty_cli("migrate", "--plan").code == ExitCode.OK
        assert conn.execute("SELECT to_regclass('_ayb_jobs_migrations')").fetchone() == (None,)


@pytest.mark.parametrize(
    "insert",
    [
        "INSERT INTO _ayb_job_schedules (name, job_type, cron_expr, enabled) VALUES ('odd', 'theirs', 'often', false)",
        "INSERT INTO _ayb_jobs (type, state, last_error) VALUES ('theirs', 'failed', 'once')",
        "INSERT INTO _ayb_jobs (type, run_at, lease_until) VALUES ('stale_session_cleanup', 'tomorrow', 'yesterday')",
    ],
    ids=["a disabled schedule", "an ended job", "a lease that a waiting job had"],
)
def test_rows_that_mean_nothing_to_a_daemon_are_not_told(empty_cli: Cli, empty_database_url: str, insert: str) -> None:
    make_ayb_database(empty_database_url)
    with closing(connect(empty_database_url)) as conn:
        conn.execute(insert.encode())
    assert json.loads(empty_cli.ok("migrate", "--adopt-check", "--json"))["rows"] == []


def test_retention_that_is_set_needs_no_decision(empty_cli: Cli, empty_database_url: str) -> None:
    make_ayb_database(empty_database_url)
    with closing(connect(empty_database_url)) as conn:
        conn.execute(HISTORY)
    assert empty_cli("migrate", "--adopt-check", AYB_JOBS_RETENTION_COMPLETED_H="720").code == ExitCode.OK


def test_a_plan_says_for_how_long_a_table_is_locked(empty_cli: Cli, empty_database_url: str) -> None:
    make_ayb_database(empty_database_url)
    with closing(connect(empty_database_url)) as conn:
        conn.execute("INSERT INTO _ayb_jobs (type, state) SELECT 'x', 'completed' FROM generate_series(1, 50000)")
        conn.execute("ANALYZE _ayb_jobs")
    (locked,) = (line for line in empty_cli.ok("migrate", "--plan").splitlines() if line.startswith("_ayb_jobs ("))
    assert "about 50,000 rows" in locked
    assert "columns and" in locked
    (told,) = (
        each
        for each in json.loads(empty_cli.ok("migrate", "--plan", "--json"))["locks"]
        if each["table"] == "_ayb_jobs"
    )
    began = time.monotonic()
    empty_cli.ok("migrate")
    assert time.monotonic() - began < 10 * told["atMostSec"]


THERE = """
    SELECT CASE relkind WHEN 'r' THEN 'table' WHEN 'i' THEN 'index' ELSE 'view' END, relname::text
    FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i', 'v')
        AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = pg_class.oid)
    UNION ALL
    SELECT 'function', proname::text FROM pg_proc WHERE pronamespace IN ('public'::regnamespace, to_regnamespace('ayb_jobs'))
    UNION ALL
    SELECT 'schema', nspname::text FROM pg_namespace WHERE nspname !~ '^pg_'
"""


@pytest.mark.parametrize("aybs", [True, False], ids=["AYB's", "an empty one"])
def test_a_plan_names_what_is_then_there(empty_cli: Cli, empty_database_url: str, *, aybs: bool) -> None:
    if aybs:
        make_ayb_database(empty_database_url)
    with closing(connect(empty_database_url)) as conn:
        before = set(conn.execute(THERE))
        plan = json.loads(empty_cli.ok("migrate", "--plan", "--json"))["makes"]
        empty_cli.ok("migrate")
        made = set(conn.execute(THERE)) - before
    plan.pop("sequence")
    assert {(kind, name) for kind, names in plan.items() for name in names} == made


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
    assert "note: a relation named public.job_execution exists already" in said.err


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
    assert json.loads(database_cli.ok("health", "--json")) == {
        "status": "ok",
        "reasons": [],
        "sentence": "Ready, and nothing to do yet: 1 daemon with 1 free slot, no job so far.",
    }
    conn.execute("UPDATE _ayb_job_workers SET heartbeat_at = now() - interval '2 minutes'")
    assert database_cli("health").code == ExitCode.FAILED


def test_a_probe_may_ask_for_its_own_host(database_cli: Cli, conn: Connection) -> None:
    beat_from(conn, "elsewhere")
    said = database_cli("health", "--this-host", "--json")
    assert said.code == ExitCode.FAILED
    assert json.loads(said.out) == {
        "status": "failing",
        "reasons": ["no daemon is alive on this host: it stopped, or has been silent for 60 s"],
        "sentence": "No daemon is alive on this host: it stopped, or has been silent for 60 s.",
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
    assert "jobs are disabled here (jobs.enabled, environment AYB_JOBS_ENABLED): neither the schema nor" in said.err


def test_where_nothing_says_whether_jobs_are_enabled_a_daemon_that_was_heard_of_decides(
    database_cli: Cli, empty_cli: Cli, conn: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    del database_cli.environ["AYB_JOBS_ENABLED"]
    empty_cli.environ.pop("AYB_JOBS_ENABLED", None)
    for cli in (empty_cli, database_cli):
        said = cli("health")
        assert (said.code, said.out) == (ExitCode.OK, "ok\n")
        assert said.err == (
            "nothing sets jobs.enabled here, and no daemon is known in the database of AYB_JOBS_DATABASE_URL: "
            "jobs are disabled\n"
        )
    beat_from(conn, "elsewhere")
    said = database_cli("health")
    assert (said.code, said.out) == (ExitCode.OK, "ok\n")
    assert "but a daemon was heard of in the database of AYB_JOBS_DATABASE_URL, which was looked at" in said.err
    assert "Ready, and nothing to do yet: 1 daemon" in said.err
    conn.execute("UPDATE _ayb_job_workers SET heartbeat_at = now() - interval '2 minutes'")
    said = database_cli("health")
    assert (said.code, said.out) == (ExitCode.FAILED, "no daemon is alive: it stopped, or has been silent for 60 s\n")
    assert database_cli("health", "--this-host").code == ExitCode.OK


def test_the_embedded_database_is_named_by_its_place_and_so_is_the_missing_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = Options()
    words = place_words(options, settings(options))
    assert words == (
        f"the embedded database in {tmp_path / DEFAULT_HOME} ({tmp_path} holds no ayb-jobs.toml, and no --config was given)"
    )
    Path("ayb-jobs.toml").write_text(f'[database]\ndata_dir = "{tmp_path}/data"\n')
    assert place_words(options, settings(options)) == f"the embedded database in {tmp_path}/data (ayb-jobs.toml)"
    Path("ayb-jobs.toml").write_text('[database]\nurl = "postgresql://u:secret@h/d"\n')
    assert place_words(options, settings(options)) == "the database of ayb-jobs.toml"


def test_why_says_that_no_daemon_is_alive_also_if_no_job_waits(database_cli: Cli, conn: Connection) -> None:
    assert database_cli.ok("why") == "No daemon is alive; none was heard of within a day.\n  Do: ayb-jobs run\n"
    beat_from(conn, "elsewhere")
    assert database_cli.ok("why") == "No job waits.\n"
    conn.execute("UPDATE _ayb_job_workers SET heartbeat_at = now() - interval '2 minutes'")
    assert database_cli.ok("why").startswith("No daemon is alive; the last was heard of at ")
    make_job(conn, type="test")
    assert database_cli.ok("why").count("o daemon is alive") == 1


def test_the_api_says_whether_its_daemon_is_ready(api_cli: Cli, conn: Connection) -> None:
    api_cli.environ.pop("AYB_JOBS_ADMIN_TOKEN")
    assert api_cli.ok("health") == "ok\n"
    conn.execute("DELETE FROM _ayb_jobs_migrations WHERE version > 1")
    said = api_cli("health", "--json")
    assert said.code == ExitCode.FAILED
    assert "migrate" in json.loads(said.out)["reasons"][0]
