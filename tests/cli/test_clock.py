"""Ages and next runs are reckoned by the database's clock, whatever the clock of the host that asks."""

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

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


@pytest.mark.skipif(FAKETIME is None, reason="libfaketime is not installed")
def test_a_preview_of_an_expression_and_a_timeline_begin_at_the_databases_now(
    database_cli: Cli, conn: Connection
) -> None:
    make_schedule(conn, name="hourly", cron_expr="0 * * * *", next_run_at=None)
    environ: dict[str, Any] = dict(database_cli.environ) | {"LD_PRELOAD": str(FAKETIME), "FAKETIME": "+5h"}
    for command in ("preview --cron @hourly --count 1 --json", "timeline --hours 1 --json"):
        _, printed = on_terminal("schedules", *command.split(), columns=200, **environ)
        (at,) = re.findall(r'"(\d{4}-[^"]+Z)"', printed)
        assert conn.execute("SELECT abs(extract(epoch FROM %s::timestamptz - now())) < 7200", (at,)).fetchone() == (
            True,
        )


def test_a_preview_of_an_expression_needs_no_database(database_cli: Cli) -> None:
    nowhere = {"AYB_JOBS_DATABASE_URL": "postgresql://127.0.0.1:1/none"}
    seen = Cli({**database_cli.environ, **nowhere})("schedules", "preview", "--cron", "@hourly")
    assert seen.code == 0, seen
    assert "this host's clock is used" in seen.err


class WithoutClock(BaseHTTPRequestHandler):
    """A daemon's API that cannot say what its database's clock is, and knows one schedule."""

    changes: ClassVar[list[str]] = []
    schedule: ClassVar[dict[str, Any]] = {
        "id": JOB, "name": "nightly", "state": "enabled", "cronExpr": "@daily", "jobType": "noop", "timezone": "UTC",
        "nextRunAt": "2030-01-01T00:00:00Z",
    }  # fmt: skip

    def do_GET(self) -> None:
        """Answer with the schedules, and with an error for the rest."""
        if self.path.startswith("/api/admin/schedules"):
            self._answer(200, {"items": [self.schedule], "count": 1})
        else:
            self._answer(503, {"code": 503, "message": "the database took too long"})

    def do_POST(self) -> None:
        """Note that something was changed."""
        self.changes.append(self.path)
        self._answer(200, self.schedule)

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def without_clock() -> Iterator[Cli]:
    WithoutClock.changes.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), WithoutClock) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield Cli({"AYB_JOBS_URL": f"http://127.0.0.1:{server.server_address[1]}"})
        server.shutdown()
        thread.join()


def test_a_command_that_cannot_ask_for_the_clock_changes_nothing(without_clock: Cli) -> None:
    refused = without_clock("schedules", "enable", "nightly")
    assert (refused.code != 0, WithoutClock.changes) == (True, []), refused
    assert without_clock("schedules", "enable", "nightly", "--json").code == 0
    assert len(WithoutClock.changes) == 1


def test_what_is_shown_to_programs_needs_no_clock(without_clock: Cli) -> None:
    assert without_clock("schedules", "show", "nightly", "--json").code == 0
    assert without_clock("schedules", "show", "nightly").code != 0
