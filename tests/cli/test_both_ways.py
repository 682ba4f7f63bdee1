"""A command prints the same whether it goes to the database or through the API."""

import pytest
from psycopg import sql

from ayb_jobs.storage.database import Connection
from tests.cli.conftest import Cli
from tests.factories import make_job, make_schedule

FAILED = "01890000-0000-7000-8000-00000000000a"
RUNNING = "01890000-0000-7000-8000-00000000000b"
SCHEDULE = "01890000-0000-7000-8000-00000000000c"
NOWHERE = "01890000-0000-7000-8000-000000000000"


@pytest.mark.parametrize(
    "command",
    [
        "jobs list",
        "jobs list --json",
        "jobs list --state failed --limit 1",
        "jobs list --type none",
        "jobs list --limit 0",
        "jobs list --state lost",
        "jobs stats",
        f"jobs show {FAILED}",
        f"jobs show {FAILED} --json",
        f"jobs show {RUNNING}",
        f"jobs show {NOWHERE}",
        "jobs show x",
        f"jobs retry {NOWHERE}",
        f"jobs retry {RUNNING}",
        f"jobs cancel {RUNNING} --json",
        "jobs cancel x",
        f"jobs enqueue {'x' * 101}",
        "schedules list",
        "schedules list --json",
        f"schedules delete {NOWHERE}",
        f"schedules trigger {NOWHERE}",
        f"schedules enable {NOWHERE}",
        f"schedules disable {NOWHERE}",
        f"schedules update {NOWHERE} --enabled true",
        f"schedules update {SCHEDULE} --cron nonsense",
        f"schedules update {SCHEDULE} --timezone Mars/Olympus",
        "schedules create --name nightly --job-type a --cron @daily",
    ],
)
def test_reading_and_refusing_look_the_same(database_cli: Cli, api_cli: Cli, conn: Connection, command: str) -> None:
    past, future = sql.SQL("'2001-02-03 04:05:06.789+00'"), sql.SQL("'2090-01-01'")
    make_job(conn, "failed", id=FAILED, run_at=past, last_error="first\nsecond\x1b[1m", payload={"a": [1.50, "ü"]})
    make_job(conn, "running", id=RUNNING, last_run_at=past, execution_id=7, run_at=future, progress={"done": 1})
    make_schedule(conn, id=SCHEDULE, name="nightly", next_run_at=future, last_run_at=past)
    conn.execute(
        "UPDATE _ayb_jobs SET created_at = '2001-01-01', updated_at = '2001-01-01', lease_until = '2090-01-01'"
    )
    directly, through_the_api = database_cli(*command.split()), api_cli(*command.split())
    assert directly == through_the_api
    assert directly.code in {0, 1, 2}


def test_schedules_are_kept_the_same_way(cli: Cli, conn: Connection) -> None:
    flags = ["--job-type", "a", "--cron", "0 3 * * *", "--timezone", "Europe/Berlin", "--payload", '{"a": 1}']
    assert "nightly" in cli.ok("schedules", "create", "--name", "nightly", *flags)
    assert "15 4" in cli.ok("schedules", "update", "nightly", "--cron", "15 4 * * *", "--enabled", "true", "--json")
    row = conn.execute(
        "SELECT name, job_type, cron_expr, timezone, payload, enabled FROM _ayb_job_schedules"
    ).fetchone()
    assert row == ("nightly", "a", "15 4 * * *", "Europe/Berlin", {"a": 1}, True)
    cli.ok("schedules", "disable", "nightly")
    assert conn.execute("SELECT enabled, next_run_at FROM _ayb_job_schedules").fetchone() == (False, None)
    cli.ok("schedules", "enable", "nightly")
    assert conn.execute("SELECT enabled, next_run_at > now() FROM _ayb_job_schedules").fetchone() == (True, True)
    cli.ok("schedules", "trigger", "nightly")
    assert conn.execute("SELECT type, payload, state FROM _ayb_jobs").fetchall() == [("a", {"a": 1}, "queued")]
    cli.ok("schedules", "delete", "nightly")
    assert conn.execute("SELECT count(*) FROM _ayb_job_schedules").fetchone() == (0,)
