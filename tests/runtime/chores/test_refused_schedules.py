"""Schedules whose rows the database refuses to change: set aside, told in few lines, and the others fire."""

from typing import Any

import psycopg
import pytest

from ayb_jobs.events import RowsSetAside
from ayb_jobs.runtime.chores.scheduler import Scheduler
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection
from tests.aside import set_aside
from tests.factories import make_schedule

PLANNED = "* * * * * UTC once"


def keep_bad_rows(conn: Connection, what: str) -> None:
    """Have a trigger of the application's refuse changes to the schedules of type `bad`."""
    conn.execute(f"""
        CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {what}; END $$;
        CREATE TRIGGER keep BEFORE UPDATE ON _ayb_job_schedules
            FOR EACH ROW WHEN (old.job_type = 'bad') EXECUTE FUNCTION keep();
    """)


REFUSALS = ["RAISE EXCEPTION 'no'", "RETURN NULL", "RETURN old"]


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("columns", [{"next_run_at": None}, {"cron_expr": "odd", "planned": "odd UTC once"}])
def test_schedules_whose_rows_cannot_be_planned_are_set_aside_in_few_lines_and_the_others_fire(
    db: Database, conn: Connection, columns: dict[str, Any], refusal: str
) -> None:
    bad = [make_schedule(conn, job_type="bad", **columns) for _ in range(30)]
    keep_bad_rows(conn, refusal)
    make_schedule(conn, planned=PLANNED, job_type="good")
    told: list[Any] = []
    scheduler = Scheduler(db, told.append, tick_s=15, batch=10)
    scheduler.tick()
    assert conn.execute("SELECT type FROM _ayb_jobs").fetchall() == [("good",)]
    assert sorted(set_aside(told)) == sorted(bad)
    assert len([event for event in told if isinstance(event, RowsSetAside)]) <= 5, "a line for each batch"


@pytest.mark.parametrize("refusal", REFUSALS)
def test_broken_schedules_that_cannot_be_tried_again_at_the_start_stop_no_other(
    db: Database, conn: Connection, refusal: str
) -> None:
    broken = {"last_error": "no such zone", "next_run_at": None, "planned": PLANNED}
    bad = make_schedule(conn, job_type="bad", **broken)
    make_schedule(conn, name="mended", **broken)
    keep_bad_rows(conn, refusal)
    told: list[Any] = []
    scheduler = Scheduler(db, told.append, tick_s=15)
    scheduler.tick()
    repaired = "SELECT name FROM _ayb_job_schedules WHERE next_run_at > now()"
    assert conn.execute(repaired).fetchall() == [("mended",)]
    assert set_aside(told) == [bad]
    conn.execute(
        "DROP TRIGGER keep ON _ayb_job_schedules; UPDATE _ayb_job_schedules SET name = 'too' WHERE name <> 'mended'"
    )
    scheduler._aside.waits.end_all()
    scheduler.tick()
    assert sorted(conn.execute(repaired).fetchall()) == [("mended",), ("too",)]


def test_broken_schedules_are_tried_again_though_the_first_try_failed(db: Database, conn: Connection) -> None:
    make_schedule(conn, last_error="no such zone", next_run_at=None, planned=PLANNED)
    keep = "RAISE EXCEPTION 'no' USING ERRCODE = '40001'"
    conn.execute("UPDATE _ayb_job_schedules SET job_type = 'bad'")
    keep_bad_rows(conn, keep)
    scheduler = Scheduler(db, lambda _: None, tick_s=15)
    with pytest.raises(psycopg.errors.SerializationFailure):
        scheduler.tick()
    conn.execute("DROP TRIGGER keep ON _ayb_job_schedules")
    scheduler.tick()
    assert conn.execute("SELECT next_run_at > now() FROM _ayb_job_schedules").fetchone() == (True,)


def test_a_schedule_that_fires_again_is_forgotten_by_those_set_aside(db: Database, conn: Connection) -> None:
    make_schedule(conn, job_type="bad", planned=PLANNED)
    keep_bad_rows(conn, "RETURN NULL")
    told: list[Any] = []
    scheduler = Scheduler(db, told.append, tick_s=15)
    for _ in range(2):
        scheduler.tick()
        scheduler._aside.waits.end_all()
    assert [event.retry_s for event in told if isinstance(event, RowsSetAside)] == [15.0, 30.0]
    conn.execute("ALTER TABLE _ayb_job_schedules DISABLE TRIGGER keep")
    scheduler.tick()
    assert scheduler._aside.waits.all() == []
