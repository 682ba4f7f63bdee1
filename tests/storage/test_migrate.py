"""Bringing real databases of every supported version up to date: empty ones, AYB's, and ones that others hold."""

import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from ayb_jobs.errors import DatabaseError, MigrationError
from ayb_jobs.storage import migrate as module
from ayb_jobs.storage import migrations
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.migrate import Applied, migrate, pending, schema_status
from ayb_jobs.storage.migrations import shipped_migrations
from tests.ayb_database import JOB_TABLES
from tests.eventually import eventually
from tests.pgbouncer import PgBouncer

STATES = ["canceled", "completed", "failed", "queued", "running"]

AYB_ROWS = """
    INSERT INTO _ayb_job_schedules (name, job_type, cron_expr, payload, next_run_at)
    VALUES ('nightly', 'cleanup', '0 3 * * *', '{"a": 1}', 'infinity');
    INSERT INTO _ayb_jobs (type, state, payload, attempts, lease_until, worker_id, last_error, idempotency_key, schedule_id)
    SELECT 'cleanup', state, jsonb_build_object('n', n), n % 4, now() + n * interval '1 minute', 'old-worker',
           'it broke', state || n, (SELECT id FROM _ayb_job_schedules)
    FROM unnest(ARRAY['queued', 'running', 'completed', 'failed', 'canceled']) AS state, generate_series(1, 20) AS n;
"""

# What AYB does all day, in words of our own.
AYB_WORK = {
    "inserts": """
        INSERT INTO _ayb_jobs (type, payload, run_at, max_attempts, idempotency_key, schedule_id)
        VALUES ('cleanup', '{}', now(), 3, 'new', NULL) RETURNING id, state
    """,
    "claims": """
        UPDATE _ayb_jobs
        SET state = 'running', attempts = attempts + 1, lease_until = now() + interval '5 minutes',
            worker_id = 'ayb', last_run_at = now(), updated_at = now()
        WHERE id = (SELECT id FROM _ayb_jobs WHERE state = 'queued' AND run_at <= now()
                    ORDER BY run_at LIMIT 1 FOR UPDATE SKIP LOCKED)
        RETURNING id
    """,
    "completes": "UPDATE _ayb_jobs SET state = 'completed', completed_at = now() WHERE state = 'running' RETURNING id",
    "recovers": "UPDATE _ayb_jobs SET state = 'queued', lease_until = NULL WHERE lease_until > now() RETURNING id",
    "schedules": """
        INSERT INTO _ayb_job_schedules (name, job_type, cron_expr) VALUES ('nightly', 'cleanup', '0 4 * * *')
        ON CONFLICT (name) DO UPDATE SET cron_expr = excluded.cron_expr, updated_at = now() RETURNING id
    """,
    "deletes a schedule": "DELETE FROM _ayb_job_schedules RETURNING id",
}


@contextmanager
def connection(url: str) -> Iterator[Connection]:
    with closing(connect(url)) as conn:
        yield conn


@contextmanager
def in_background() -> Iterator[Callable[..., Future[Applied]]]:
    with ThreadPoolExecutor(1) as thread:
        yield thread.submit


def rows(conn: Connection, query: str) -> list[tuple[object, ...]]:
    return conn.execute(query.encode()).fetchall()


def make_ayb_database(url: str) -> None:
    with connection(url) as conn:
        conn.execute(JOB_TABLES)
        conn.execute(AYB_ROWS)


def tables(conn: Connection) -> list[tuple[object, ...]]:
    return rows(conn, "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1")


def test_migrations_are_numbered_without_gap_or_twin() -> None:
    assert [each.version for each in shipped_migrations()] == list(range(1, len(shipped_migrations()) + 1))


def test_an_empty_database_is_brought_up_to_date(each_empty_database_url: str) -> None:
    with connection(each_empty_database_url) as conn:
        assert [m.version for m in pending(conn)] == [m.version for m in shipped_migrations()]
        assert not schema_status(conn).is_current
        steps: list[str] = []
        applied = migrate(conn, steps.append)
        assert [m.name for m in applied.migrations] == [m.name for m in shipped_migrations()]
        assert steps == [f"applying {m.name}" for m in shipped_migrations()]
        assert applied.notices == []
        assert pending(conn) == []
        assert schema_status(conn).is_current


def test_a_second_run_changes_nothing(each_empty_database_url: str) -> None:
    with connection(each_empty_database_url) as conn:
        migrate(conn)
        assert migrate(conn) == Applied(migrations=[], notices=[])


def test_ids_are_time_ordered_uuids_of_version_7(each_empty_database_url: str) -> None:
    with connection(each_empty_database_url) as conn:
        migrate(conn)
        before = rows(conn, "SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)")[0][0]
        ids = [str(rows(conn, "SELECT _ayb_job_id(), pg_sleep(0.002)")[0][0]) for _ in range(20)]
        after = rows(conn, "SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)")[0][0]
    assert ids == sorted(ids)
    assert all(re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", id_) for id_ in ids)
    milliseconds = [int(id_.replace("-", "")[:12], 16) for id_ in ids]
    assert int(str(before)) <= milliseconds[0]
    assert milliseconds[-1] <= int(str(after))


def test_rows_of_plain_sql_get_time_ordered_ids_too(each_empty_database_url: str) -> None:
    with connection(each_empty_database_url) as conn:
        migrate(conn)
        (job,) = rows(conn, "INSERT INTO _ayb_jobs (type) VALUES ('plain') RETURNING id::text")[0]
        (schedule,) = rows(
            conn,
            "INSERT INTO _ayb_job_schedules (name, job_type, cron_expr) VALUES ('s', 'plain', '@daily') RETURNING id::text",
        )[0]
    assert str(job)[14] == str(schedule)[14] == "7"


def test_every_row_of_aybs_own_tables_is_kept(each_empty_database_url: str) -> None:
    make_ayb_database(each_empty_database_url)
    everything = """
        SELECT j.id, j.type, j.payload, j.state, j.run_at, j.lease_until, j.worker_id, j.attempts, j.max_attempts,
               j.last_error, j.last_run_at, j.idempotency_key, j.schedule_id, j.created_at, j.updated_at,
               j.completed_at, j.canceled_at, s.name, s.cron_expr, s.payload, s.enabled, s.next_run_at
        FROM _ayb_jobs j JOIN _ayb_job_schedules s ON s.id = j.schedule_id ORDER BY j.id
    """
    with connection(each_empty_database_url) as conn:
        before = rows(conn, everything)
        assert len(before) == 100
        assert migrate(conn).migrations
        assert rows(conn, everything) == before
        filled_in = "SELECT DISTINCT queue, priority, crashes, lease_id FROM _ayb_jobs"
        assert rows(conn, filled_in) == [("default", 2, 0, None)]


@pytest.mark.parametrize("statement", AYB_WORK)
def test_aybs_own_statements_go_on_working(each_empty_database_url: str, statement: str) -> None:
    make_ayb_database(each_empty_database_url)
    with connection(each_empty_database_url) as conn:
        migrate(conn)
        assert rows(conn, AYB_WORK[statement])


def test_both_ways_lead_to_the_same_columns(each_empty_database_url: str) -> None:
    columns = """
        SELECT table_name, column_name, data_type, character_maximum_length, is_nullable,
            -- AYB's own tables keep the random ids that AYB gives them.
            CASE WHEN column_default ~ 'uuid' THEN 'a new id' ELSE column_default END
        FROM information_schema.columns WHERE table_schema = current_schema ORDER BY 1, 2
    """
    make_ayb_database(each_empty_database_url)
    with connection(each_empty_database_url) as conn:
        migrate(conn)
        of_aybs_tables = rows(conn, columns)
        conn.execute("CREATE SCHEMA fresh")
        conn.execute("SET search_path = fresh")
        migrate(conn)
        assert rows(conn, columns) == of_aybs_tables


def test_barycenters_own_execution_log_is_left_as_it_is(empty_database_url: str) -> None:
    with connection(empty_database_url) as conn:
        conn.execute("CREATE TABLE job_execution (id bigint, job_name text)")
        conn.execute("INSERT INTO job_execution VALUES (7, 'theirs')")
        applied = migrate(conn)
        assert rows(conn, "SELECT id, job_name FROM job_execution") == [(7, "theirs")]
    assert len(applied.notices) == 1
    assert "job_execution" in applied.notices[0]


def test_of_eight_daemons_that_start_at_once_one_migrates(empty_database_url: str) -> None:
    together = threading.Barrier(8)

    def start_daemon(_: int) -> int:
        with connection(empty_database_url) as conn:
            together.wait()
            return len(migrate(conn).migrations)

    with ThreadPoolExecutor(8) as daemons:
        applied = sorted(daemons.map(start_daemon, range(8)))
    assert applied == [0] * 7 + [len(shipped_migrations())]


def test_who_waits_for_another_migrating_process_says_so(empty_database_url: str) -> None:
    steps: list[str] = []
    with connection(empty_database_url) as first, connection(empty_database_url) as second, in_background() as do:
        with first.transaction():
            first.execute(module.TRY_LOCK)
            migration = do(migrate, second, steps.append)
            eventually(lambda: steps == ["waiting: another process is migrating"])
        assert migration.result().migrations


def test_locks_of_an_application_are_waited_for_in_short_turns(empty_database_url: str) -> None:
    make_ayb_database(empty_database_url)
    steps: list[str] = []
    with connection(empty_database_url) as application, connection(empty_database_url) as conn, in_background() as do:
        with application.transaction():
            application.execute("SELECT count(*) FROM _ayb_jobs")
            migration = do(migrate, conn, steps.append)
            eventually(lambda: any("a lock is held" in step for step in steps))
        assert migration.result().migrations


def test_giving_up_on_a_lock_changes_nothing(empty_database_url: str) -> None:
    make_ayb_database(empty_database_url)
    with connection(empty_database_url) as application, connection(empty_database_url) as conn:
        before = tables(conn)
        with application.transaction():
            application.execute("SELECT count(*) FROM _ayb_jobs")
            with pytest.raises(MigrationError, match=r"gave up after 0\.1 s, nothing was changed: a lock is held"):
                migrate(conn, patience_s=0.1)
        assert tables(conn) == before


def test_a_schema_newer_than_this_program_is_refused(empty_database_url: str) -> None:
    with connection(empty_database_url) as conn:
        migrate(conn)
        conn.execute("INSERT INTO _ayb_jobs_migrations (version, name, checksum) VALUES (9999, '9999_future', '')")
        with pytest.raises(MigrationError, match=r"schema is version 9999, .* install a newer ayb-jobs"):
            migrate(conn)
        assert not schema_status(conn).is_current


def test_a_migration_changed_after_it_was_applied_is_refused(empty_database_url: str) -> None:
    with connection(empty_database_url) as conn:
        migrate(conn)
        conn.execute("UPDATE _ayb_jobs_migrations SET checksum = 'another' WHERE version = 2")
        conn.execute("DELETE FROM _ayb_jobs_migrations WHERE version = 5")
        with pytest.raises(MigrationError, match="0002_executions was applied to this database with another text"):
            migrate(conn)


def test_a_failing_migration_undoes_the_whole_upgrade(
    empty_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "0001_good.sql").write_text("CREATE TABLE good ()")
    (tmp_path / "0002_bad.sql").write_text("CREATE TABLE bad (); SELECT 1 / 0")
    monkeypatch.setattr(migrations, "_folder", lambda: tmp_path)
    with connection(empty_database_url) as conn:
        with pytest.raises(MigrationError, match="0002_bad failed, nothing was changed: division by zero"):
            migrate(conn)
        assert tables(conn) == []


def test_a_connection_lost_on_the_way_is_no_fault_of_the_schema(
    empty_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "0001_lost.sql").write_text("CREATE TABLE lost (); SELECT pg_terminate_backend(pg_backend_pid())")
    monkeypatch.setattr(migrations, "_folder", lambda: tmp_path)
    with connection(empty_database_url) as conn, pytest.raises(DatabaseError, match="connection was lost"):
        migrate(conn)
    with connection(empty_database_url) as conn:
        assert tables(conn) == []


def test_a_migration_takes_longer_than_statements_may(
    empty_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "0001_slow.sql").write_text("SELECT pg_sleep(0.2)")
    monkeypatch.setattr(migrations, "_folder", lambda: tmp_path)
    with connection(empty_database_url) as conn:
        conn.execute("SET statement_timeout = '50ms'")
        assert migrate(conn).migrations
        assert rows(conn, "SHOW statement_timeout") == [("50ms",)]


def test_a_user_without_the_right_to_create_gets_a_clear_error(empty_database_url: str) -> None:
    with connection(empty_database_url) as conn:
        conn.execute("CREATE ROLE reader_only")
        conn.execute("SET ROLE reader_only")
        with pytest.raises(MigrationError, match="was not brought up to date: permission denied"):
            migrate(conn)
        conn.execute("RESET ROLE")
        conn.execute("DROP ROLE reader_only")


def test_a_pooler_between_is_no_hindrance(empty_database_url: str, pgbouncer: PgBouncer) -> None:
    with connection(pgbouncer.url(empty_database_url)) as conn:
        assert migrate(conn).migrations
    with connection(empty_database_url) as conn:
        assert schema_status(conn).is_current
        assert rows(conn, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [(0,)]


def test_waiting_for_its_turn_hinders_no_index_that_is_built_concurrently(empty_database_url: str) -> None:
    make_ayb_database(empty_database_url)
    steps: list[str] = []
    with (
        connection(empty_database_url) as holder,
        connection(empty_database_url) as waiting,
        connection(empty_database_url) as builder,
        in_background() as do,
    ):
        with holder.transaction():
            holder.execute(module.TRY_LOCK)
            migration = do(migrate, waiting, steps.append)
            eventually(lambda: bool(steps))
            builder.execute("SET statement_timeout = '10s'")
            builder.execute("CREATE INDEX CONCURRENTLY built ON _ayb_jobs (worker_id)")
        assert migration.result().migrations
