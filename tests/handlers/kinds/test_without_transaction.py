"""SQL that no transaction may hold: each statement by itself, behind the fence, and what it has done stays."""

import time
from typing import Any

import psycopg
import pytest

from ayb_jobs.errors import LeaseLost, Stopped
from ayb_jobs.handlers.job_type import Handler
from ayb_jobs.handlers.kinds.sql import SqlSettings, sql_handler
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection
from tests.handlers.conftest import Lease


def each(*statements: str, **settings: Any) -> Handler:
    return sql_handler(SqlSettings(statements=list(statements), transaction=False, **settings))


@pytest.fixture(autouse=True)
def things(conn: Connection) -> None:
    conn.execute("CREATE TABLE things AS SELECT i AS id FROM generate_series(1, 100) i")


def count(conn: Connection, query: str) -> int:
    return int(conn.execute(query).fetchall()[0][0])


@pytest.mark.parametrize(
    "statement",
    [
        "VACUUM things",
        "VACUUM (ANALYZE) things",
        "CREATE INDEX CONCURRENTLY ON things (id)",
        "REINDEX TABLE CONCURRENTLY things",
    ],
)
def test_what_no_transaction_may_hold_runs_by_itself(statement: str, lease: Lease) -> None:
    with pytest.raises(psycopg.errors.ActiveSqlTransaction):
        sql_handler(SqlSettings(statements=[statement]))(lease())
    assert each(statement)(lease()) == 0


def test_a_procedure_that_commits_runs_with_its_parameters(conn: Connection, lease: Lease) -> None:
    conn.execute(
        """
        CREATE PROCEDURE drain(lowest int) LANGUAGE plpgsql AS $$
        BEGIN
            DELETE FROM things WHERE id < lowest;
            COMMIT;
            DELETE FROM things WHERE id = lowest;
            ROLLBACK;
        END $$
        """
    )
    assert each("CALL drain(%(lowest)s::int)", payload={"lowest": 10})(lease(payload={"lowest": 50})) == 0
    assert count(conn, "SELECT min(id) FROM things") == 50


def test_what_a_statement_has_done_stays_and_is_counted_if_a_later_one_fails(conn: Connection, lease: Lease) -> None:
    context = lease()
    with pytest.raises(psycopg.errors.DivisionByZero):
        each("DELETE FROM things WHERE id <= 10", "SELECT 1 / 0")(context)
    assert context.records_processed == 10
    assert count(conn, "SELECT count(*) FROM things") == 90


def test_no_statement_begins_if_the_lease_is_lost(conn: Connection, lease: Lease) -> None:
    context = lease()
    steal = "UPDATE _ayb_jobs SET lease_id = gen_random_uuid()"
    with pytest.raises(LeaseLost):
        each(steal, "DELETE FROM things")(context)
    with pytest.raises(LeaseLost):
        each("DELETE FROM things")(context)
    assert count(conn, "SELECT count(*) FROM things") == 100


def test_a_stop_ends_the_job_between_statements(conn: Connection, lease: Lease) -> None:
    context = lease()
    context.stop("shutdown")
    with pytest.raises(Stopped):
        each("DELETE FROM things")(context)
    assert count(conn, "SELECT count(*) FROM things") == 100


def test_each_statement_has_what_is_left_of_the_timeout_and_the_next_user_of_the_connection_has_not(
    conn: Connection, db: Database, lease: Lease
) -> None:
    conn.execute("CREATE TABLE seen (statement_timeout int)")
    seen = "INSERT INTO seen SELECT setting::int FROM pg_settings WHERE name = 'statement_timeout'"
    assert each(seen)(lease()) == 1
    assert each(seen)(lease(deadline=time.monotonic() + 60)) == 1
    without, within = [row[0] for row in conn.execute("SELECT statement_timeout FROM seen")]
    assert without == 0
    assert 0 < within <= 60_000
    with pytest.raises(psycopg.errors.QueryCanceled):
        each("SELECT pg_sleep(60)")(lease(deadline=0.0))
    with db.work() as later:
        assert later.execute("SHOW statement_timeout").fetchone() == ("30s",)
