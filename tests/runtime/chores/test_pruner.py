"""What retention removes, what it passes over, and what it leaves alone for a day."""

import threading
from collections.abc import Sequence
from datetime import timedelta
from typing import TypeVar

import pytest
from psycopg import sql

from ayb_jobs.config import Retention
from ayb_jobs.events import RetentionDeferred, RowsPruned, RowsUnprunable
from ayb_jobs.runtime.chores import pruner
from ayb_jobs.runtime.chores.pruner import TURN_S, Pruner
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue.refusals import delete_refusals, find_old_refusals
from tests.factories import make_job, make_schedule

LONG_AGO = sql.SQL("now() - interval '1 year'")
EXPLICIT = Retention(completed_h=24, canceled_h=24, failed_h=24, executions_h=24)
T = TypeVar("T")


class Bench:
    """A pruner and what it reports."""

    def __init__(self, db: Database, retention: Retention = EXPLICIT) -> None:
        self.events: list[object] = []
        self.pruner = Pruner(database=db, retention=retention, emit=self.events.append, stopping=threading.Event())

    def of(self, kind: type[T]) -> list[T]:
        """Return the events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]


def make_old(conn: Connection, count: int, state: str = "completed") -> Sequence[str]:
    ends = {"created_at": LONG_AGO, "updated_at": LONG_AGO, "completed_at": LONG_AGO, "canceled_at": None}
    return [make_job(conn, state, **ends) for _ in range(count)]


def adopt(conn: Connection, ago: str) -> None:
    conn.execute(sql.SQL("UPDATE _ayb_jobs_migrations SET applied_at = now() - {}::interval").format(sql.Literal(ago)))


@pytest.mark.parametrize("state", ["completed", "failed"])
def test_jobs_that_the_application_refers_to_are_passed_over_counted_and_told(
    db: Database, conn: Connection, state: str
) -> None:
    referred = make_old(conn, 100, state)
    make_old(conn, 100, state)
    conn.execute("CREATE TABLE app_results (job_id uuid REFERENCES _ayb_jobs (id))")
    conn.execute("INSERT INTO app_results SELECT unnest(%s::uuid[])", (list(referred),))
    bench = Bench(db)
    assert bench.pruner.tick() == TURN_S
    assert {row[0] for row in conn.execute("SELECT id FROM _ayb_jobs")} == set(referred)
    assert [(event.table, event.rows) for event in bench.of(RowsPruned)] == [(f"{state} jobs", 100)]
    (told,) = bench.of(RowsUnprunable)
    assert (told.table, told.rows) == (f"{state} jobs", 100)
    assert "app_results" in str(told.error)


def test_executions_that_cannot_be_deleted_are_passed_over(db: Database, conn: Connection) -> None:
    conn.execute("""
        INSERT INTO _ayb_job_executions (id, job_id, job_type, attempt, outcome, started_at, ended_at)
        SELECT number, gen_random_uuid(), 'a', 1, 'completed', now() - interval '1 year', now() - interval '1 year'
        FROM generate_series(1, 1100) AS number
    """)
    conn.execute("CREATE TABLE app_runs (id bigint REFERENCES _ayb_job_executions (id))")
    conn.execute("INSERT INTO app_runs VALUES (1), (500), (1100)")
    bench = Bench(db)
    bench.pruner.tick()
    assert [row[0] for row in conn.execute("SELECT id FROM _ayb_job_executions ORDER BY id")] == [1, 500, 1100]
    assert [event.rows for event in bench.of(RowsUnprunable)] == [3]


@pytest.mark.parametrize(
    ("table", "refers", "key"),
    [
        ("fires", "schedule_id uuid, fire_at timestamptz", "schedule_id, fire_at"),
        ("alerts", "id uuid", "id"),
    ],
)
def test_fires_and_alerts_that_the_application_refers_to_are_passed_over_counted_and_told(
    db: Database, conn: Connection, table: str, refers: str, key: str
) -> None:
    schedule_id = make_schedule(conn)
    conn.execute(
        "INSERT INTO _ayb_job_fires (schedule_id, fire_at, outcome, recorded_at)"
        " SELECT %s, '2020-01-01'::timestamptz + number * interval '1 minute', 'coalesced', now() - interval '1 year'"
        " FROM generate_series(1, 1200) AS number",
        (schedule_id,),
    )
    conn.execute(
        "UPDATE _ayb_job_fires SET fire_at = '-infinity' WHERE fire_at = (SELECT max(fire_at) FROM _ayb_job_fires)"
    )
    conn.execute(
        "INSERT INTO _ayb_job_alerts (kind, schedule_id, about, message, at)"
        " SELECT 'failed', %s, number, '', now() - interval '1 year' FROM generate_series(1, 1200) AS number",
        (schedule_id,),
    )
    conn.execute(f"CREATE TABLE app ({refers}, FOREIGN KEY ({key}) REFERENCES _ayb_job_{table} ({key}))")
    conn.execute(f"INSERT INTO app SELECT {key} FROM _ayb_job_{table} ORDER BY {key} LIMIT 100")
    bench = Bench(db)
    assert bench.pruner.tick() == TURN_S
    left = conn.execute(f"SELECT {key} FROM _ayb_job_{table} EXCEPT SELECT {key} FROM app").fetchall()
    assert left == []
    assert {event.table: event.rows for event in bench.of(RowsPruned)} == {"fires": 1200, "alerts": 1200} | {
        table: 1100
    }
    (told,) = bench.of(RowsUnprunable)
    assert (told.table, told.rows) == (table, 100)


# What each table's old rows are called, their key, and how they are made.
OLD_ROWS = {
    "_ayb_jobs": (
        "completed jobs",
        "id",
        "(type, state, created_at, completed_at) SELECT 'a', 'completed', '2020-01-01', '2020-01-01'",
    ),
    "_ayb_job_executions": (
        "executions",
        "id",
        (
            "(id, job_id, job_type, attempt, outcome, started_at, ended_at)"
            " SELECT number, gen_random_uuid(), 'a', 1, 'lost', '2020-01-01', '2020-01-01'"
        ),
    ),
    "_ayb_job_fires": (
        "fires",
        "fire_at",
        (
            "(schedule_id, fire_at, outcome, recorded_at) SELECT (SELECT id FROM _ayb_job_schedules),"
            " now() + number * interval '1 minute', 'coalesced', '2020-01-01'"
        ),
    ),
    "_ayb_job_outputs": (
        "outputs",
        "lease_id",
        "(lease_id, job_id, attempt, output, written_at) SELECT gen_random_uuid(), gen_random_uuid(), 1, 'x', '2020-01-01'",
    ),
    "_ayb_job_alerts": (
        "alerts",
        "id",
        (
            "(kind, schedule_id, about, message, at)"
            " SELECT 'failed', (SELECT id FROM _ayb_job_schedules), number, '', '2020-01-01'"
        ),
    ),
    "_ayb_job_results": (
        "results",
        "job_id",
        "(job_id, result, ended_at) SELECT gen_random_uuid(), '1', '2020-01-01'",
    ),
    "_ayb_job_steps": (
        "steps",
        "job_id",
        "(job_id, name, result) SELECT gen_random_uuid(), 'a', '1'",
    ),
    "_ayb_job_dependencies": (
        "dependencies",
        "child_id",
        "(child_id, parent_id, rule) SELECT gen_random_uuid(), gen_random_uuid(), 'run'",
    ),
    "_ayb_job_batches": (
        "batches",
        "id",
        "(id, sealed_at, done_at) SELECT gen_random_uuid(), '2020-01-01', '2020-01-01'",
    ),
    "_ayb_job_minutes": (
        "minutes",
        "job_type",
        "(at, job_type) SELECT '-infinity', number",
    ),
    "_ayb_job_levels": (
        "levels",
        "at",
        (
            "(at, waiting, running, oldest_wait_s)"
            " SELECT '2020-01-01'::timestamptz - number * interval '2 years', 1, 1, 1"
        ),
    ),
    "_ayb_job_limit_keys": (
        "keys of limits",
        "limit_key",
        "(limit_name, limit_key, tat) SELECT 'a', number, '-infinity'",
    ),
    "_ayb_job_refusals": (
        "refusals",
        "job_id",
        "(job_id, worker_id, error, retry_s, retry_at) SELECT gen_random_uuid(), 'w', 'no', 60, '2020-01-01'",
    ),
}


@pytest.mark.parametrize("refusal", ["RETURN NULL", "RAISE 'by a trigger'"])
@pytest.mark.parametrize("table", OLD_ROWS)
def test_rows_whose_deletion_a_trigger_refuses_are_passed_over_counted_and_told(
    db: Database, conn: Connection, monkeypatch: pytest.MonkeyPatch, table: str, refusal: str
) -> None:
    monkeypatch.setattr(pruner, "PRUNE_BATCH", 50)
    make_schedule(conn)
    name, key, values = OLD_ROWS[table]
    conn.execute(f"INSERT INTO {table} {values} FROM generate_series(1, 160) AS number")
    conn.execute(f"""
        CREATE TABLE app_kept AS SELECT {key} AS key FROM {table} ORDER BY key LIMIT 60;
        CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF old.{key} IN (SELECT key FROM app_kept) THEN {refusal}; END IF;
            RETURN old;
        END $$;
        CREATE TRIGGER swallow BEFORE DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION swallow();
    """)
    bench = Bench(db)
    assert bench.pruner.tick() == TURN_S
    assert [(event.table, event.rows) for event in bench.of(RowsPruned)] == [(name, 100)]
    (told,) = bench.of(RowsUnprunable)
    assert (told.table, told.rows, "a trigger" in str(told.error)) == (name, 60, True)


@pytest.mark.parametrize("table", OLD_ROWS)
def test_rows_that_are_gone_are_told_even_if_a_later_batch_fails(
    db: Database, conn: Connection, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    monkeypatch.setattr(pruner, "PRUNE_BATCH", 50)
    make_schedule(conn)
    name, _, values = OLD_ROWS[table]
    conn.execute(f"INSERT INTO {table} {values} FROM generate_series(1, 2100) AS number")
    conn.execute(f"""
        CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF (SELECT count(*) FROM {table}) < 2100 THEN RAISE 'a deadlock' USING ERRCODE = '40P01'; END IF;
            RETURN NULL;
        END $$;
        CREATE TRIGGER fail BEFORE DELETE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION fail();
    """)
    bench = Bench(db)
    with pytest.raises(Exception, match="a deadlock"):
        bench.pruner.tick()
    ((left,),) = conn.execute(f"SELECT count(*) FROM {table}").fetchall()
    assert 0 < left < 2100
    assert [(event.table, event.rows) for event in bench.of(RowsPruned)] == [(name, 2100 - left)]


def test_refusals_that_no_worker_comes_back_for_go_and_those_that_one_may_stay(db: Database, conn: Connection) -> None:
    conn.execute("""
        INSERT INTO _ayb_job_refusals (job_id, worker_id, error, retry_s, retry_at)
        SELECT gen_random_uuid(), meant, 'no', 60, now() + ahead
        FROM (VALUES ('gone', interval '-61 minutes'), ('gone', '2 hours'), ('kept', '-59 minutes'), ('kept', '1 minute'))
            AS rows (meant, ahead)
        UNION ALL SELECT gen_random_uuid(), 'gone', 'no', 60, at::timestamptz FROM unnest(ARRAY['infinity', '-infinity']) AS at
    """)
    Bench(db).pruner.tick()
    assert conn.execute("SELECT worker_id FROM _ayb_job_refusals").fetchall() == [("kept",), ("kept",)]


def test_a_refusal_that_a_worker_wrote_anew_is_not_removed(conn: Connection) -> None:
    conn.execute("INSERT INTO _ayb_job_refusals VALUES (gen_random_uuid(), 'w', 'no', 60, now() - interval '1 day')")
    found = find_old_refusals(conn, keep=timedelta(hours=1))
    conn.execute("UPDATE _ayb_job_refusals SET retry_at = now() + interval '1 minute'")
    assert delete_refusals(conn, found) == (0, 0)


@pytest.mark.parametrize("ended_at", ["'infinity'", "now() + interval '1 year'"])
def test_ends_that_lie_ahead_keep_nothing_old(db: Database, conn: Connection, ended_at: str) -> None:
    conn.execute(
        sql.SQL("""
            INSERT INTO _ayb_job_executions (id, job_id, job_type, attempt, outcome, started_at, ended_at)
            SELECT number, gen_random_uuid(), 'a', 1, 'completed', now(),
                CASE WHEN number < 0 THEN {} ELSE now() - interval '1 year' END
            FROM generate_series(-1100, 10) AS number
        """).format(sql.SQL(ended_at))
    )
    Bench(db).pruner.tick()
    assert conn.execute("SELECT count(*) FROM _ayb_job_executions WHERE id >= 0").fetchone() == (0,)


def test_a_days_notice_is_given_although_many_other_jobs_are_older(db: Database, conn: Connection) -> None:
    conn.execute(
        "INSERT INTO _ayb_jobs (type, created_at, run_at) SELECT 'a', now() - interval '9 years', '2090-01-01'"
        " FROM generate_series(1, 10001)"
    )
    make_old(conn, 3)
    bench = Bench(db, Retention())
    bench.pruner.tick()
    assert bench.of(RowsPruned) == []
    assert [event.state for event in bench.of(RetentionDeferred)] == ["completed"]


def test_what_was_there_before_the_adoption_goes_only_after_a_days_notice(db: Database, conn: Connection) -> None:
    make_old(conn, 3)
    adopt(conn, "1 hour")
    bench = Bench(db, Retention())
    bench.pruner.tick()
    (told,) = bench.of(RetentionDeferred)
    assert (told.state, told.kept_h, round(told.begins_in_s / 3600)) == ("completed", 720, 23)
    assert conn.execute("SELECT count(*) FROM _ayb_jobs").fetchone() == (3,)
    adopt(conn, "23 hours 59 minutes")
    assert bench.pruner.tick() <= 61
    adopt(conn, "25 hours")
    bench.pruner.tick()
    assert conn.execute("SELECT count(*) FROM _ayb_jobs").fetchone() == (0,)


@pytest.mark.parametrize(("ahead", "left"), [("2 hours", 3), ("2 days", 0)])
def test_a_clock_that_was_set_back_takes_no_notice_away(db: Database, conn: Connection, ahead: str, left: int) -> None:
    make_old(conn, 3)
    adopt(conn, f"-{ahead}")
    Bench(db, Retention()).pruner.tick()
    assert conn.execute("SELECT count(*) FROM _ayb_jobs").fetchone() == (left,)


def test_retention_that_the_configuration_sets_applies_at_once(db: Database, conn: Connection) -> None:
    make_old(conn, 3)
    make_old(conn, 3, "failed")
    bench = Bench(db, Retention(completed_h=720))
    bench.pruner.tick()
    assert {row[0] for row in conn.execute("SELECT state FROM _ayb_jobs")} == {"failed"}
    assert [event.state for event in bench.of(RetentionDeferred)] == ["failed"]


def test_nothing_is_told_of_what_is_not_there(db: Database) -> None:
    bench = Bench(db, Retention())
    assert bench.pruner.tick() == TURN_S
    assert bench.events == []


def test_a_table_that_cannot_be_pruned_keeps_no_other_from_being_pruned(db: Database, conn: Connection) -> None:
    make_old(conn, 3)
    conn.execute("ALTER TABLE _ayb_job_fires RENAME TO fires_elsewhere")
    conn.execute(
        "INSERT INTO _ayb_job_executions (id, job_id, job_type, attempt, outcome, started_at, ended_at)"
        " VALUES (1, gen_random_uuid(), 'a', 1, 'completed', '2020-01-01', '2020-01-01')"
    )
    bench = Bench(db)
    with pytest.raises(Exception, match="_ayb_job_fires"):
        bench.pruner.tick()
    assert {event.table for event in bench.of(RowsPruned)} == {"completed jobs", "executions"}
