"""A command prints the same whether it goes to the database or through the API."""

import json
import re

import pytest
from psycopg import sql

from ayb_jobs.model.daemons import DaemonRecord
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.daemons import beat
from tests.cli.conftest import Cli
from tests.factories import make_job, make_schedule

FAILED = "01890000-0000-7000-8000-00000000000a"
RUNNING = "01890000-0000-7000-8000-00000000000b"
SCHEDULE = "01890000-0000-7000-8000-00000000000c"
LATER = "01890000-0000-7000-8000-00000000000d"
NOWHERE = "01890000-0000-7000-8000-000000000000"


@pytest.mark.parametrize(
    "command",
    [
        "jobs list",
        "jobs list --json",
        "jobs list --state failed --limit 1",
        "jobs list --type none",
        "jobs list --limit 0",
        "jobs list --due",
        "jobs list --later --type later",
        "jobs list --due --state failed",
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
        f"jobs output {FAILED}",
        f"jobs output {FAILED} --attempt 2 --json",
        f"jobs output {RUNNING}",
        f"jobs output {NOWHERE}",
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
    make_job(conn, id=LATER, type="later", run_at=future)
    make_schedule(conn, id=SCHEDULE, name="nightly", next_run_at=future, last_run_at=past)
    conn.execute(
        "INSERT INTO _ayb_job_outputs (lease_id, job_id, attempt, output)"
        f" SELECT gen_random_uuid(), '{FAILED}', i, E'of attempt ' || i || E'\\n' FROM generate_series(1, 2) i"
    )
    conn.execute(  # no age in seconds may differ between the two
        "UPDATE _ayb_jobs SET created_at = '2001-01-01', updated_at = '2001-01-01', lease_until = '2090-01-01',"
        " last_run_at = last_run_at - interval '1000 days', completed_at = completed_at - interval '1000 days'"
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


# id suffix → what the job waits for, with one daemon alive that knows `mail` in `default` and one `report` in `slow`.
LATE = {
    "1": ("mail", "default", "2090-01-01", "it is due only at 2090-01-01T00:00:00Z"),
    "2": ("mail", "heavy", "2001-01-01", "no live daemon serves its queue heavy; served are default, slow"),
    "3": ("mial", "default", "2001-01-01", "no live daemon knows its type mial; did you mean mail?"),
    "4": ("unheard-of", "default", "2001-01-01", "no live daemon knows its type unheard-of\n"),
    "5": ("report", "default", "2001-01-01", "no live daemon that knows its type serves its queue default"),
    "6": ("mail", "default", "2001-01-02", ""),
    "7": ("mail", "default", "2001-01-03", "1 due job is ahead of it"),
}


def live_daemon(conn: Connection, name: str, *, types: list[str], queues: list[str]) -> None:
    worker = DaemonRecord(id=name, host="h", pid=1, version="1", concurrency=4, queues=queues, types=types)
    beat(conn, worker)


def test_a_queued_job_says_why_it_waits(cli: Cli, conn: Connection) -> None:
    live_daemon(conn, "a", types=["mail"], queues=["default"])
    live_daemon(conn, "b", types=["report"], queues=["slow"])
    ids = {
        number: make_job(conn, type=type_, queue=queue, run_at=sql.SQL(f"'{due}+00'"))
        for number, (type_, queue, due, _) in LATE.items()
    }
    for number, (*_, reason) in LATE.items():
        shown = cli.ok("jobs", "show", ids[number])
        assert re.findall(r"(?m)^Waits +(.*\n)", shown) == ([reason.removesuffix("\n") + "\n"] if reason else [])
        told = json.loads(cli.ok("jobs", "show", ids[number], "--json")).get("waitReason", "")
        assert told == reason.removesuffix("\n")
    assert "Waits" not in cli.ok("jobs", "show", make_job(conn, "failed"))


def test_only_jobs_that_are_leased_before_it_are_ahead_of_a_job(cli: Cli, conn: Connection) -> None:
    live_daemon(conn, "a", types=["mail"], queues=["default", "slow"])
    due = {day: sql.SQL(f"'2001-01-0{day}+00'") for day in (1, 2, 3)}
    job_id = make_job(conn, type="mail", priority=2, run_at=due[2])
    for queue, priority, run_at in (
        ("default", 1, due[3]),  # ahead
        ("default", 2, due[1]),  # ahead
        ("default", 2, due[3]),
        ("default", 3, due[1]),
        ("default", 1, sql.SQL("'2090-01-01'")),
        ("slow", 1, due[1]),
    ):
        make_job(conn, type="mail", queue=queue, priority=priority, run_at=run_at)
    make_job(conn, type="unheard-of", run_at=due[1])
    make_job(conn, "running", type="mail", run_at=due[1])
    assert "Waits     2 due jobs are ahead of it" in cli.ok("jobs", "show", job_id)


def test_a_job_waits_where_no_daemon_is_alive(cli: Cli, conn: Connection) -> None:
    job_id = make_job(conn)
    assert "no daemon is alive; none was heard of within a day" in cli.ok("jobs", "show", job_id)
    live_daemon(conn, "a", types=["test"], queues=["default"])
    conn.execute("UPDATE _ayb_job_workers SET heartbeat_at = now() - interval '1 hour'")
    assert "no daemon is alive; the last was heard of at " in cli.ok("jobs", "show", job_id)


def test_stats_and_health_tell_of_jobs_that_no_live_daemon_can_run(cli: Cli, conn: Connection) -> None:
    live_daemon(conn, "a", types=["mail"], queues=["default"])
    make_job(conn, type="mail")
    assert "no live daemon" not in cli("jobs", "stats").err + cli("health").err
    for _ in range(2):
        make_job(conn, type="mial")
    make_job(conn, type="mial", run_at=sql.SQL("'2090-01-01'"))
    assert "Due, and no live daemon can run them: mial 2." in cli("jobs", "stats").err
    assert json.loads(cli.ok("jobs", "stats", "--json"))["unclaimable"] == {"mial": 2}
    said = cli("health")
    assert (said.code, said.out) == (0, "ok\n")
    assert "2 due jobs wait that no live daemon can run" in said.err
    told = json.loads(cli.ok("health", "--json"))
    assert told.pop("sentence") == "2 due jobs wait that no live daemon can run: none knows type `mial`."
    assert told == {"status": "ok", "reasons": [], "unclaimableJobs": 2}


CALL_BACK = ["batches", "create", "--on-success", "mail", "--on-failure"]
CREATE = ["schedules", "create", "--name", "n", "--cron", "@daily", "--job-type"]


@pytest.mark.parametrize("command", [["jobs", "enqueue"], CREATE, CALL_BACK], ids=["enqueue", "create", "call back"])
@pytest.mark.parametrize("types", [["mail", "report"], []])
def test_a_type_that_no_live_daemon_knows_is_warned_of(
    cli: Cli, conn: Connection, command: list[str], types: list[str]
) -> None:
    live_daemon(conn, "a", types=types, queues=["default"])
    command = [word for word in command if word not in {"--on-success", "mail"} or types]
    said = cli(*command, "mial")
    near = "; did you mean mail?" if types else ""
    assert (said.code, said.err) == (0, f"ayb-jobs: warning: no live daemon knows the job type mial{near}\n")


def test_no_type_is_warned_of_where_it_is_known_or_no_daemon_is_alive(cli: Cli, conn: Connection) -> None:
    assert cli("jobs", "enqueue", "mail").err == ""
    live_daemon(conn, "a", types=["mail"], queues=["default"])
    assert cli("jobs", "enqueue", "mail").err == ""
    assert cli(*CREATE, "mail").err == ""
    assert cli(*CALL_BACK, "mail").err == ""
    unserved = cli(*CALL_BACK, '{"type": "mail", "queue": "slow"}').err
    assert unserved == "ayb-jobs: warning: no live daemon serves the queue slow; served are default\n"
