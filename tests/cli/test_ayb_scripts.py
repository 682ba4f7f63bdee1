"""What scripts for AYB's command line rely on."""

import csv
import io
import json

import pytest

from ayb_jobs.cli.exits import ExitCode
from ayb_jobs.storage.database import Connection
from tests.cli.conftest import Cli
from tests.factories import make_job

CREATE = ["schedules", "create", "--name", "s", "--job-type", "work", "--cron", "0 3 * * *"]
DOES_NOT_EXIST = "00000000-0000-4000-8000-000000000000"


@pytest.mark.parametrize("where", ["before", "between", "after"])
def test_output_json_prints_bare_arrays_wherever_it_stands(cli: Cli, conn: Connection, where: str) -> None:
    job_id = make_job(conn)
    flag = ["--output", "json"]
    words = {"before": [*flag, "jobs", "list"], "between": ["jobs", *flag, "list"], "after": ["jobs", "list", *flag]}
    (job,) = json.loads(cli.ok(*words[where]))
    assert job["id"] == job_id
    assert json.loads(cli.ok("schedules", "list", *flag)) == []


def test_json_and_output_json_print_the_same_items(cli: Cli, conn: Connection) -> None:
    make_job(conn, payload={"digits": 12345678901234567890})
    page = json.loads(cli.ok("jobs", "list", "--json"))
    assert json.loads(cli.ok("jobs", "list", "--output", "json")) == page["items"]
    assert page["count"] == 1


def test_the_later_of_two_forms_counts(database_cli: Cli) -> None:
    assert database_cli.ok("--output", "csv", "jobs", "list", "--json") == '{"items":[],"count":0}\n'
    assert database_cli.ok("jobs", "list", "--json", "--output", "csv").startswith("ID,STATE,")


def test_csv_has_the_columns_of_the_table_and_one_line_for_each_row(cli: Cli, conn: Connection) -> None:
    job_id = make_job(conn, "failed", type='a,"b"', last_error="one\ntwo")
    (row,) = csv.DictReader(io.StringIO(cli.ok("jobs", "list", "--output", "csv")))
    assert (row["ID"], row["TYPE"], row["LAST ERROR"]) == (job_id, 'a,"b"', "one\\ntwo")
    for command in (["show", job_id], ["retry", job_id], ["cancel", job_id]):
        (row,) = csv.DictReader(io.StringIO(cli.ok("jobs", *command, "--output", "csv")))
        assert row["ID"] == job_id
    assert row["STATE"] == "canceled"


def test_csv_of_schedules_and_of_what_became_of_them(cli: Cli) -> None:
    commands = (CREATE, ["schedules", "show", "s"], ["schedules", "disable", "s"], ["schedules", "list"])
    for command in commands:
        (row,) = csv.DictReader(io.StringIO(cli.ok(*command, "--output", "csv")))
        assert row["NAME"] == "s"
    assert cli.ok("schedules", "delete", "s", "--output", "csv") == "DELETED\ns\n"


def test_a_table_is_a_table_in_a_pipe_too(cli: Cli, conn: Connection) -> None:
    job_id = make_job(conn, type="work")
    title, row = cli.ok("jobs", "list", "--output", "table").splitlines()
    assert "\t" not in title + row
    assert (title.index("TYPE"), row[: len(job_id)]) == (row.index("work"), job_id)


def test_what_is_no_table_is_not_printed_as_csv(database_cli: Cli) -> None:
    for words in (["check-config", "--output", "csv"], ["--output", "csv", "check-config"]):
        said = database_cli(*words)
        assert said.code == ExitCode.USAGE
        assert "table" in said.err


@pytest.mark.parametrize(("limit", "count"), [("0", 1), ("-5", 1), ("2", 2), ("501", 3), ("1000", 3)])
def test_a_limit_is_kept_within_its_bounds(cli: Cli, conn: Connection, limit: str, count: int) -> None:
    for _ in range(3):
        make_job(conn)
    assert len(json.loads(cli.ok("jobs", "list", "--limit", limit, "--output", "json"))) == count


@pytest.mark.parametrize(
    ("flag", "state"),
    [
        ([], "enabled"),
        (["--enabled"], "enabled"),
        (["--enabled", "true"], "enabled"),
        (["--enabled=false"], "disabled"),
    ],
    ids=str,
)
def test_enabled_is_a_switch_of_create(cli: Cli, flag: list[str], state: str) -> None:
    made = json.loads(cli.ok(*CREATE[:2], *flag, *CREATE[2:], "--json"))
    assert made["enabled"] is (state == "enabled")


def test_enabled_of_update_takes_a_value(cli: Cli) -> None:
    cli.ok(*CREATE)
    assert "next run" not in cli.ok("schedules", "update", "s", "--enabled", "false")
    assert "next run" in cli.ok("schedules", "update", "s", "--enabled", "true")
    assert json.loads(cli.ok("schedules", "update", "s", "--enabled", "false", "--json"))["enabled"] is False
    assert cli("schedules", "update", "s", "--enabled").code == ExitCode.USAGE


@pytest.mark.parametrize("flags", [[], ["--cron", ""], ["--timezone", ""], ["--cron=", "--timezone="]], ids=str)
def test_an_update_of_nothing_changes_nothing(cli: Cli, conn: Connection, flags: list[str]) -> None:
    cli.ok(*CREATE)
    rows = "SELECT * FROM _ayb_job_schedules", "SELECT count(*) FROM _ayb_job_audit"
    before = [conn.execute(row).fetchall() for row in rows]
    assert "is unchanged" in cli.ok("schedules", "update", "s", *flags)
    assert json.loads(cli.ok("schedules", "update", "s", *flags, "--output", "json"))["name"] == "s"
    assert [conn.execute(row).fetchall() for row in rows] == before
    assert cli("schedules", "update", DOES_NOT_EXIST, *flags).code == ExitCode.FAILED
