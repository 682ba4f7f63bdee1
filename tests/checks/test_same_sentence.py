"""A fault is told in the same sentence wherever it is asked about."""

import re
from collections.abc import Callable

import pytest
from psycopg import sql

from ayb_jobs.checks.database import outage, unfit_database
from ayb_jobs.checks.finding import Finding
from ayb_jobs.checks.fleet import no_daemon, unclaimable
from ayb_jobs.checks.loops import LoopAge, stuck_loops
from ayb_jobs.checks.schedules import overdue
from ayb_jobs.errors import DatabaseError
from ayb_jobs.model.daemons import DaemonRecord
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.daemons import beat
from ayb_jobs.storage.fleet.lifelines import look_at_fleet
from tests.cli.conftest import Cli
from tests.factories import make_job, make_schedule
from tests.http.conftest import serving


def an_old_schema(conn: Connection) -> None:
    conn.execute("DELETE FROM _ayb_jobs_migrations WHERE version > 1")


def a_read_only_database(conn: Connection) -> None:
    conn.execute(
        sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(sql.Identifier(conn.info.dbname))
    )


@pytest.mark.parametrize(
    ("spoil", "words"),
    [(an_old_schema, "the schema is version 1, and"), (a_read_only_database, "the database takes no writes")],
)
def test_the_database_is_unfit_in_the_same_words(
    db: Database, conn: Connection, database_url: str, spoil: Callable[[Connection], None], words: str
) -> None:
    spoil(conn)
    said = Cli({"AYB_JOBS_DATABASE_URL": database_url, "AYB_JOBS_ENABLED": "true"})("health")
    with serving(db) as server, server.client(None) as client:
        told = client.get("/readyz")
    assert (said.code, told.status_code) == (1, 503)
    assert told.json()["reasons"] == said.out.splitlines()
    assert said.out.startswith(words)


def test_one_schedule_is_spoken_of_as_one(conn: Connection) -> None:
    make_schedule(conn, cron_expr="often")
    late = overdue(conn)
    assert late is not None
    assert late.meaning == "Its work was not done in time."


def test_the_counts_are_the_same_everywhere(db: Database, conn: Connection, database_url: str) -> None:
    beat(conn, DaemonRecord(id="a", host="h", pid=1, version="1", concurrency=1, queues=["default"], types=["mail"]))
    for _ in range(2):
        make_job(conn, type="mial")
    long_ago = sql.SQL("now() - interval '1 hour'")
    make_schedule(conn, next_run_at=long_ago, last_run_at=long_ago)
    make_schedule(conn, cron_expr="often")  # which no scheduler has found out about yet
    found, late = unclaimable(conn), overdue(conn)
    assert found is not None
    assert late is not None
    with serving(db) as server, server.client(None) as client:
        ready, metrics = client.get("/readyz").json(), client.get("/metrics").text
    assert ready["unclaimableJobs"] == found.evidence["count"] == 2
    assert ready["overdueSchedules"] == late.evidence["count"] == 2
    assert re.findall(r"(?m)^ayb_jobs_schedules_overdue (.*)$", metrics) == ["2.0"]
    said = Cli({"AYB_JOBS_DATABASE_URL": database_url, "AYB_JOBS_ENABLED": "true"})("health")
    assert said.code == 0
    assert found.fact in said.err


def findings(conn: Connection) -> list[Finding | None]:
    """Return what every check finds on a database without a daemon, and of loops that hang."""
    make_job(conn)
    make_schedule(conn, next_run_at=sql.SQL("now() - interval '1 hour'"))
    an_old_schema(conn)
    loops = [LoopAge("producer", 11.0, 10.0), LoopAge("pruner", 11.0, 10.0, failing=True), LoopAge("well", 1.0, 10.0)]
    return [
        *stuck_loops(loops),
        *unfit_database(conn),
        no_daemon(look_at_fleet(conn)),
        unclaimable(conn),
        overdue(conn),
        outage(DatabaseError("cannot connect to the database: secret.example.org")),
    ]


def test_a_finding_tells_what_is_wrong_what_follows_and_what_to_do(conn: Connection) -> None:
    found = findings(conn)
    assert [finding and finding.name for finding in found] == [
        "loop.stuck", "loop.failing", "schema.outdated", "daemon.none", "jobs.unclaimable", "schedules.overdue",
        "database.unavailable",
    ]  # fmt: skip
    for finding in found:
        assert finding is not None
        assert finding.fact
        assert finding.meaning
        assert finding.remedy
        assert "secret" not in finding.fact
