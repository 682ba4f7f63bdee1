"""What a database or a role prefers for its sessions makes the daemon neither fail nor complain."""

from contextlib import closing

import pytest
from psycopg import sql

from ayb_jobs.events import LoopErrorRepeated, LoopFailed
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection, connect
from tests.eventually import eventually
from tests.factories import make_job
from tests.running import running

# A session of the daemon's that was idle for several times as long as one may be.
LONG_IDLE = """
    SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'ayb-jobs-notifier' AND state = 'idle'
        AND state_change < now() - interval '1 second'
"""


def prefer(conn: Connection, setting: str, value: str) -> None:
    statement = sql.SQL("ALTER DATABASE {} SET {} = {}")
    conn.execute(statement.format(sql.Identifier(conn.info.dbname), sql.Identifier(setting), sql.Literal(value)))


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_the_loops_read_what_is_committed_whatever_is_preferred(
    database_url: str, conn: Connection, level: str
) -> None:
    prefer(conn, "default_transaction_isolation", level)
    with closing(connect(database_url)) as other:
        assert other.execute("SHOW default_transaction_isolation").fetchone() == (level,)
    with closing(Database(database_url)) as db:
        with db.connection() as ours:
            assert ours.execute("SHOW transaction_isolation").fetchone() == ("read committed",)
        with db.transaction() as ours:
            assert ours.execute("SHOW transaction_isolation").fetchone() == ("read committed",)


def test_daemons_on_a_serializable_database_work_side_by_side_without_a_failure(
    database_url: str, conn: Connection
) -> None:
    prefer(conn, "default_transaction_isolation", "serializable")
    registry = Registry()
    registry.handler("test")(lambda _: None)
    for _ in range(500):
        make_job(conn)
    with running(database_url, registry) as first, running(database_url, registry) as second:
        eventually(lambda: conn.execute("SELECT DISTINCT state FROM _ayb_jobs").fetchall() == [("completed",)])
        for daemon in (first, second):
            assert not daemon.recorder.of(LoopFailed)
    assert conn.execute("SELECT DISTINCT attempts FROM _ayb_jobs").fetchall() == [(1,)]


def test_idle_sessions_are_not_ended_by_the_server(database_url: str, conn: Connection) -> None:
    prefer(conn, "idle_session_timeout", "300ms")
    registry = Registry()
    registry.handler("test")(lambda _: None)
    with running(database_url, registry, poll_interval_ms=60_000) as daemon:
        eventually(lambda: conn.execute(LONG_IDLE).fetchone())
        job_id = make_job(conn)
        conn.execute("NOTIFY ayb_jobs")
        eventually(
            lambda: conn.execute("SELECT state FROM _ayb_jobs WHERE id = %s", (job_id,)).fetchone() == ("completed",)
        )
        assert not daemon.recorder.of(LoopFailed)
        assert not daemon.recorder.of(LoopErrorRepeated)


def test_a_conflict_is_retried_without_an_error_line(database_url: str, conn: Connection) -> None:
    """A trigger raises it once for each row, as another transaction that wins would."""
    conn.execute(
        """
        CREATE SEQUENCE tries;
        CREATE FUNCTION conflict() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF nextval('tries') = 1 THEN
                RAISE EXCEPTION 'could not serialize access' USING ERRCODE = '40001';
            END IF;
            RETURN NEW;
        END
        $$;
        CREATE TRIGGER conflict BEFORE UPDATE ON _ayb_jobs FOR EACH ROW EXECUTE FUNCTION conflict();
        """
    )
    registry = Registry()
    registry.handler("test")(lambda _: None)
    job_id = make_job(conn)
    with running(database_url, registry) as daemon:
        eventually(
            lambda: conn.execute("SELECT state FROM _ayb_jobs WHERE id = %s", (job_id,)).fetchone() == ("completed",)
        )
        assert daemon.recorder.of(LoopErrorRepeated)
        assert not daemon.recorder.of(LoopFailed)
