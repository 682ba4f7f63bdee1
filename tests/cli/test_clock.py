"""Ages and next runs are reckoned by the database's clock, whatever the clock of the host that asks."""

import re
from pathlib import Path
from typing import Any

import pytest
from psycopg.sql import SQL

from ayb_jobs.storage.database import Connection
from tests.cli.conftest import Cli
from tests.cli.processes import on_terminal
from tests.factories import make_job, make_schedule

FAKETIME = next(iter(Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)
JOB = "01890000-0000-7000-8000-00000000000a"


@pytest.mark.skipif(FAKETIME is None, reason="libfaketime is not installed")
@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("jobs list", r"\d+ s ago"),
        (f"jobs show {JOB}", r"Created .*\d+ s ago"),
        ("schedules list", r"in 5\d min .* \d+ s ago"),
        ("schedules show nightly", r"Next run .*in 5\d min"),
        ("schedules disable nightly", r"is disabled"),
        ("schedules enable nightly", r"next run .*\(in \d+ (s|min)\)"),
        ("schedules overdue", r"not_fired +1\d min ago"),
    ],
)
def test_a_command_on_a_host_whose_clock_is_wrong_tells_ages_by_the_database(
    cli: Cli, database_cli: Cli, conn: Connection, command: str, expected: str
) -> None:
    make_job(conn, id=JOB)
    make_schedule(
        conn, name="nightly", last_run_at=SQL("now()"), next_run_at=SQL("now() + interval '59 minutes'"),
        planned="* * * * * UTC once",
    )  # fmt: skip
    make_schedule(conn, name="hourly", cron_expr="0 * * * *", next_run_at=SQL("now() - interval '15 minutes'"))
    alone = {"schedules overdue"}  # this asks the database alone
    environ: dict[str, Any] = dict((database_cli if command in alone else cli).environ)
    code, printed = on_terminal(
        *command.split(), columns=200, LD_PRELOAD=str(FAKETIME), FAKETIME="+5h", NO_COLOR="1", **environ
    )
    assert code == int(command == "schedules overdue")
    assert re.search(expected, printed), printed
    assert not re.search(r"\d h\b", printed), printed


@pytest.mark.skipif(FAKETIME is None, reason="libfaketime is not installed")
def test_a_preview_begins_at_the_databases_now(database_cli: Cli, conn: Connection) -> None:
    make_schedule(conn, name="hourly", cron_expr="0 * * * *", next_run_at=None)
    environ: dict[str, Any] = dict(database_cli.environ)
    _, printed = on_terminal(
        "schedules", "preview", "hourly", "--count", "1", "--json",
        columns=200, LD_PRELOAD=str(FAKETIME), FAKETIME="+5h", **environ,
    )  # fmt: skip
    (at,) = re.findall(r'"at": "([^"]+)"', printed)
    assert conn.execute("SELECT %s::timestamptz - now() < interval '2 hours'", (at,)).fetchone() == (True,)
