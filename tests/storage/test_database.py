"""Connections: what they outlive, and how soon."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime

import psycopg
import pytest
from psycopg import sql

from ayb_jobs.embedded import EmbeddedPostgres
from ayb_jobs.errors import DatabaseError
from ayb_jobs.storage import connections
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection, Timeouts
from ayb_jobs.storage.faults import is_outage
from tests.eventually import eventually

LIMIT_S = 30.0


@pytest.mark.outer
def test_handlers_get_connections_as_soon_as_the_database_is_back() -> None:
    with (
        EmbeddedPostgres.throwaway() as server,
        closing(Database(server.url(), work_connections=2, timeouts=Timeouts(connect_s=2.0))) as database,
    ):
        with database.work() as conn:
            conn.execute("SELECT 1")
        server.stop()
        for _ in range(3):  # long enough for a wait that doubles each time to become long
            assert not can_work(database)
        answers: list[bool] = []
        waiting = threading.Thread(target=lambda: answers.append(can_work(database)))
        waiting.start()
        server.start()
        eventually(lambda: answers == [True], within_s=2.5)
        waiting.join()


def can_work(database: Database) -> bool:
    try:
        with database.work() as conn:
            conn.execute("SELECT 1")
    except DatabaseError:
        return False
    return True


def test_instants_are_read_whatever_style_the_database_prefers(database_url: str, conn: Connection) -> None:
    conn.execute(sql.SQL("ALTER DATABASE {} SET DateStyle = 'German'").format(sql.Identifier(conn.info.dbname)))
    with closing(Database(database_url)) as database:
        with database.connection() as ours:
            assert ours.execute("SELECT '2026-01-02 03:04:05+00'::timestamptz").fetchone() == (
                datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
            )
        with database.work() as ours:
            assert isinstance((ours.execute("SELECT now()").fetchone() or (None,))[0], datetime)


def test_a_closed_pool_is_said_to_be_closed(database_url: str) -> None:
    database = Database(database_url)
    with database.work() as conn:
        conn.execute("SELECT 1")
    database.close()
    with pytest.raises(DatabaseError, match="stopping"), database.work():
        pass


def test_waiting_in_vain_says_what_may_be_wrong(database_url: str) -> None:
    with (
        closing(Database(database_url, work_connections=1, timeouts=Timeouts(connect_s=0.2))) as database,
        database.work(),
        pytest.raises(DatabaseError, match=r"within 0.2 s: it is down, or all 1 are in use"),
        database.work(),
    ):
        pass


def test_whoever_is_patient_shares_a_connection_and_nobody_else_waits(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "SHARE_S", LIMIT_S)
    with closing(Database(database_url)) as database, ThreadPoolExecutor() as pool:
        with database.connection() as first:
            lent = first.info.backend_pid
            patient = pool.submit(backend_of, database, patient=True)
        assert patient.result(LIMIT_S) == lent
        with database.connection():
            assert pool.submit(backend_of, database).result(LIMIT_S) != lent


def test_the_patient_wait_for_a_moment_alone(database_url: str) -> None:
    with closing(Database(database_url)) as database, database.connection() as first:
        assert backend_of(database, patient=True) != first.info.backend_pid


def test_each_loop_gets_the_connection_back_on_which_its_statements_are_prepared(database_url: str) -> None:
    with closing(Database(database_url)) as database, ThreadPoolExecutor(max_workers=1) as other:
        with database.connection() as conn:
            mine, its = conn.info.backend_pid, other.submit(backend_of, database).result(LIMIT_S)
        for _ in range(2):
            assert backend_of(database) == mine
            assert other.submit(backend_of, database).result(LIMIT_S) == its


def backend_of(database: Database, *, patient: bool = False) -> int:
    with database.connection(patient=patient) as conn:
        return conn.info.backend_pid


def test_a_connection_behind_which_another_session_stands_is_given_up(database_url: str) -> None:
    with closing(Database(database_url)) as database:
        for _ in range(7):  # a statement that is repeated is prepared
            with database.connection() as ours:
                ours.execute("SELECT %s::int", (1,))
        with database.connection() as ours:
            ours.execute("DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$")  # of which psycopg takes no notice
        with pytest.raises(psycopg.errors.InvalidSqlStatementName) as raised, database.connection() as ours:
            ours.execute("SELECT %s::int", (1,))
        assert is_outage(raised.value)
        assert ours.closed
        with database.connection() as ours:
            assert ours.execute("SELECT %s::int", (1,)).fetchone() == (1,)


def test_a_trigger_that_raises_the_like_says_nothing_of_the_session(conn: Connection) -> None:
    with pytest.raises(psycopg.errors.InvalidSqlStatementName) as raised:
        conn.execute("DO $$ BEGIN RAISE SQLSTATE '26000'; END $$")
    assert not is_outage(raised.value)
