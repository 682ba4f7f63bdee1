"""Where a torture run may take place, what it leaves alone, and what it leaves behind: nothing."""

from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from psycopg import sql

from ayb_jobs.errors import Conflict
from ayb_jobs.lab.torture import torture
from ayb_jobs.lab.torture.grounds import prepared
from ayb_jobs.model.daemons import DaemonRecord
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.drift import made_columns
from ayb_jobs.storage.fleet.daemons import beat
from ayb_jobs.storage.throwaway import Databases
from tests.ayb_database import make_ayb_database
from tests.factories import make_job, make_schedule

EVERYTHING = """
    SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace
    UNION ALL SELECT proname::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL SELECT tgname::text FROM pg_trigger WHERE NOT tgisinternal
    ORDER BY 1
"""
LIMIT = "INSERT INTO _ayb_job_limits (name, types, max_running, set_by) VALUES ('mail', '{mail}', 2, 'ops')"
PAUSE = "INSERT INTO _ayb_job_pauses (kind, name, paused_by) VALUES ('queue', 'mail', 'ops')"
BATCH = "INSERT INTO _ayb_job_batches (id) VALUES (gen_random_uuid())"
MINUTE = "INSERT INTO _ayb_job_levels (at, waiting, running, oldest_wait_s) VALUES (now(), 0, 0, 0)"


def contents(conn: Connection) -> dict[str, object]:
    """Return how many rows each table of ours has."""
    tables = sorted({table for table, _ in made_columns()})
    counts = {each: conn.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(each))) for each in tables}
    return {each: (found.fetchone() or (None,))[0] for each, found in counts.items()}


def make_execution(conn: Connection) -> None:
    conn.execute(
        "INSERT INTO _ayb_job_executions (id, job_id, job_type, attempt, outcome, started_at, ended_at)"
        " VALUES (1, gen_random_uuid(), 'theirs', 1, 'completed', now(), now())"
    )


def make_daemon(conn: Connection) -> None:
    beat(
        conn,
        DaemonRecord(id="h:1:a", host="h", pid=1, version="1", concurrency=1, queues=["default"], types=["theirs"]),
    )


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (make_job, "1 jobs"),
        (make_schedule, "1 schedules"),
        (make_execution, "1 executions"),
        (make_daemon, "1 living daemons"),
        (lambda conn: conn.execute(LIMIT), "1 limits"),
        (lambda conn: conn.execute(PAUSE), "1 pauses"),
        (lambda conn: conn.execute(BATCH), "1 batches"),
        (lambda conn: conn.execute(MINUTE), "1 levels"),
    ],
)
def test_a_database_that_anybody_uses_is_refused_and_stays_as_it_is(
    make: Callable[[Connection], object], words: str, database_url: str, conn: Connection
) -> None:
    make(conn)
    before = conn.execute(EVERYTHING).fetchall(), contents(conn)
    with pytest.raises(Conflict, match=words), prepared(database_url):
        pass
    assert (conn.execute(EVERYTHING).fetchall(), contents(conn)) == before


def test_aybs_own_database_is_refused_unmigrated(empty_database_url: str) -> None:
    make_ayb_database(empty_database_url)
    with pytest.raises(Conflict, match="another version"), prepared(empty_database_url):
        pass


def test_a_migrated_database_keeps_its_tables_and_an_empty_one_has_none(
    database_url: str, empty_database_url: str
) -> None:
    for url in (database_url, empty_database_url):
        with closing(connect(url)) as conn:
            before = conn.execute(EVERYTHING).fetchall()
            held = contents(conn) if before else None
            with prepared(url):
                make_job(conn, "running", type="torture_work")
                make_schedule(conn, name="torture_ticks")
                for statement in (LIMIT, PAUSE, BATCH, MINUTE):
                    conn.execute(statement)
            assert conn.execute(EVERYTHING).fetchall() == before
            assert held is None or contents(conn) == held


@pytest.mark.timeout(300)
def test_a_run_on_a_named_server_strikes_its_own_sessions_only_and_leaves_nothing(
    tmp_path: Path, databases: Databases
) -> None:
    with databases.empty() as url, databases.empty() as other, ExitStack() as neighbours:
        strangers = [
            neighbours.enter_context(closing(connect(place, name=name)))
            for place in (url, other)
            for name in ("daemon1.1", "daemon", "ayb-torture")
        ]
        result = torture(
            seconds=3, seed=1, faults={"terminate": 10, "kill": 2}, database_url=url, daemons=2, folder=tmp_path
        )
        assert result.passed
        assert result.figures.faults["terminate"] >= 10
        assert result.figures.backends > 0
        for stranger in strangers:
            assert stranger.execute("SELECT 1").fetchone() == (1,)
        assert strangers[0].execute(EVERYTHING).fetchall() == []
