"""Schedules whose next run is later than their expression says are put right."""

import subprocess
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL

from ayb_jobs.events import SchedulePutRight
from ayb_jobs.model.daemons import DaemonRecord
from ayb_jobs.model.schedules.fires import Timing, expected_fire
from ayb_jobs.runtime.chores import clock_watch
from ayb_jobs.runtime.chores import scheduler as scheduler_module
from ayb_jobs.runtime.chores.scheduler import Scheduler
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.daemons import beat
from ayb_jobs.storage.schedules import leaps
from ayb_jobs.storage.schedules.leaps import PutRight, Righted, list_planned, list_too_late, put_right
from ayb_jobs.storage.schedules.overdue import count_overdue, list_overdue
from ayb_jobs.storage.schedules.planning import Ahead, look_ahead
from tests.aside import set_aside
from tests.cli.processes import PROGRAM, environment
from tests.factories import make_schedule

ME = DaemonRecord(id="me", host="here", pid=1, version="1", concurrency=1, queues=["default"], types=["test"])
PLANNED = "* * * * * UTC once"
NEXT = "SELECT next_run_at, next_run_at <= now() + interval '1 minute', last_fire_at <= now() FROM _ayb_job_schedules"


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with closing(Database(database_url, name="test")) as made:
        yield made


def leap(conn: Connection, interval: str) -> None:
    """Leave the rows as a scheduler does that worked while the clock was ahead, and that was set back since."""
    conn.execute(
        """
        UPDATE _ayb_job_schedules
        SET next_run_at = date_trunc('minute', now() + %(interval)s::interval) + interval '1 minute',
            last_fire_at = date_trunc('minute', now() + %(interval)s::interval)
        """,
        {"interval": interval},
    )
    conn.execute(
        """
        INSERT INTO _ayb_job_fires (schedule_id, fire_at, outcome)
        SELECT id, at, 'coalesced'
        FROM _ayb_job_schedules,
            generate_series(date_trunc('minute', now() - interval '5 minutes'), last_fire_at, '1 minute') AS at
        """
    )


def test_a_clock_that_was_set_forward_and_back_silences_no_schedule(database: Database, conn: Connection) -> None:
    make_schedule(conn, planned=PLANNED)
    leap(conn, "3 hours")
    told: list[Any] = []
    wait_s = Scheduler(database, told.append, tick_s=15).tick()
    next_at, is_near, was_fired = conn.execute(NEXT).fetchall()[0]
    assert (is_near, was_fired) == (True, True)
    assert 0 < wait_s <= 15
    assert conn.execute("SELECT count(*) FROM _ayb_job_fires WHERE fire_at >= %s", (next_at,)).fetchone() == (0,)
    (event,) = [each for each in told if isinstance(each, SchedulePutRight)]
    assert (event.next_run_at, event.was > next_at + timedelta(hours=2)) == (next_at, True)


def test_a_clock_that_is_set_back_while_a_scheduler_runs_is_noticed(database: Database, conn: Connection) -> None:
    make_schedule(conn, planned=PLANNED)
    told: list[Any] = []
    scheduler = Scheduler(database, told.append, tick_s=15)
    scheduler.tick()
    leap(conn, "3 hours")
    scheduler.tick()
    assert not [each for each in told if isinstance(each, SchedulePutRight)]  # a page a minute, while the clock is well
    scheduler._clock_watch._offset_s = (scheduler._clock_watch._offset_s or 0.0) + 3 * 3600
    scheduler.tick()
    assert len([each for each in told if isinstance(each, SchedulePutRight)]) == 1


def test_a_clock_that_is_set_back_while_a_scheduler_catches_up_is_noticed(
    database: Database, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A turn that has not enough time for all that is due looks at no next run, but hears the clock."""
    ahead_s = 0.0

    def asked(*given: Any) -> Ahead:
        found = look_ahead(*given)
        return found._replace(clock_s=found.clock_s + ahead_s)

    monkeypatch.setattr(scheduler_module, "look_ahead", asked)
    make_schedule(conn, planned=PLANNED)
    told: list[Any] = []
    scheduler = Scheduler(database, told.append, tick_s=15)
    scheduler.tick()
    with monkeypatch.context() as busy:
        busy.setattr(scheduler_module, "TURN_S", 0.0)
        conn.execute("UPDATE _ayb_job_schedules SET next_run_at = now() - interval '1 minute'")
        ahead_s = 3 * 3600.0
        assert scheduler.tick() == 0.0
    leap(conn, "3 hours")
    ahead_s = 0.0
    scheduler.tick()
    assert len(put_right_of(told)) == 1


def make_late(conn: Connection, count: int) -> None:
    """Make schedules whose next run is too late, after the clock was set forward and back."""
    for _ in range(count):
        make_schedule(conn, planned=PLANNED)
    conn.execute("UPDATE _ayb_job_schedules SET next_run_at = now() + interval '3 hours', last_fire_at = now()")


def put_right_of(told: list[Any]) -> list[SchedulePutRight]:
    return [each for each in told if isinstance(each, SchedulePutRight)]


def test_a_turn_looks_at_no_more_than_its_time_allows_and_the_next_goes_on(
    database: Database, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock_watch, "TURN_S", 0.0)  # one schedule in each turn
    make_late(conn, 5)
    told: list[Any] = []
    scheduler = Scheduler(database, told.append, tick_s=15)
    assert [scheduler.tick() for _ in range(4)] == [0.0] * 4
    assert len(put_right_of(told)) == 4
    assert scheduler.tick() > 0
    assert len(put_right_of(told)) == 5


def test_a_look_that_fails_is_done_again(database: Database, conn: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    make_late(conn, 1)
    told: list[Any] = []
    scheduler = Scheduler(database, told.append, tick_s=15)
    with monkeypatch.context() as broken:
        broken.setattr(clock_watch, "list_planned", fail)
        with pytest.raises(psycopg.errors.DivisionByZero):
            scheduler.tick()
    scheduler.tick()
    assert len(put_right_of(told)) == 1


def fail(conn: Connection, **_: object) -> None:
    conn.execute("SELECT 1 / 0")


@pytest.mark.parametrize(
    "refusal", ["RAISE EXCEPTION 'no'", "RAISE EXCEPTION 'no' USING ERRCODE = '40001'", "RETURN NULL", "RETURN old"]
)
def test_schedules_that_cannot_be_put_right_are_set_aside_and_told_and_the_others_are_put_right(
    database: Database, conn: Connection, refusal: str
) -> None:
    make_late(conn, 100)
    bad = [row[0] for row in conn.execute("UPDATE _ayb_job_schedules SET job_type = 'bad' RETURNING id::text")]
    make_late(conn, 5)
    conn.execute(f"""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {refusal}; END $$;
        CREATE TRIGGER refuse BEFORE UPDATE ON _ayb_job_schedules
            FOR EACH ROW WHEN (old.job_type = 'bad') EXECUTE FUNCTION refuse();
    """)
    told: list[Any] = []
    scheduler = Scheduler(database, told.append, tick_s=15)
    for _ in range(9):
        with suppress(psycopg.errors.SerializationFailure):
            scheduler.tick()
    assert len(put_right_of(told)) == 5
    assert sorted(set_aside(told)) == sorted(bad)


def test_a_server_whose_clock_is_a_little_behind_fires_nothing_twice(database: Database, conn: Connection) -> None:
    make_schedule(conn, cron_expr="* * * * * *", planned="* * * * * * UTC once")
    conn.execute(
        "UPDATE _ayb_job_schedules SET last_fire_at = date_trunc('second', now()) + interval '30 seconds',"
        " next_run_at = date_trunc('second', now()) + interval '31 seconds'"
    )
    told: list[Any] = []
    Scheduler(database, told.append, tick_s=15).tick()
    assert told == []


def test_a_next_run_that_has_changed_since_it_was_seen_stays(conn: Connection) -> None:
    make_schedule(
        conn, planned=PLANNED, next_run_at=datetime.fromisoformat("2100-01-01T00:00:00Z"), last_fire_at="2026-01-01"
    )
    (planned,) = list_planned(conn, limit=10)
    conn.execute("UPDATE _ayb_job_schedules SET next_run_at = '2200-01-01'")
    assert put_right(conn, [Righted(planned, planned.now)]) == PutRight([], [])


@pytest.mark.parametrize(("ahead", "righted"), [("0 hours", 0), ("3 hours", 1)])
def test_a_schedule_that_never_fired_is_put_right_if_it_was_written_ahead_of_the_clock(
    database: Database, conn: Connection, ahead: str, righted: int
) -> None:
    make_schedule(conn, planned=PLANNED)
    conn.execute(
        "UPDATE _ayb_job_schedules SET next_run_at = now() + interval '3 hours', created_at = now() + %s::interval",
        (ahead,),
    )
    told: list[Any] = []
    Scheduler(database, told.append, tick_s=15).tick()
    assert len(told) == righted


def test_jobs_of_a_time_that_has_not_come_are_due(database: Database, conn: Connection) -> None:
    make_schedule(conn, planned=PLANNED)
    leap(conn, "3 hours")
    conn.execute(
        "INSERT INTO _ayb_jobs (type, run_at, schedule_id, scheduled_for)"
        " SELECT 'test', last_fire_at, id, last_fire_at FROM _ayb_job_schedules"
    )
    Scheduler(database, lambda _: None, tick_s=15).tick()
    assert conn.execute("SELECT run_at <= now() FROM _ayb_jobs").fetchone() == (True,)


def test_a_next_run_that_is_too_late_is_seen_while_no_scheduler_lives(conn: Connection) -> None:
    make_schedule(conn, name="late", planned=PLANNED)
    leap(conn, "3 hours")
    make_schedule(
        conn, name="right", planned=PLANNED, next_run_at=SQL("date_trunc('minute', now()) + interval '1 minute'")
    )
    assert [(each.name, each.reason) for each in list_overdue(conn)] == [("late", "too_late")]
    assert "later than its expression says" in list_overdue(conn)[0].words


@pytest.mark.parametrize("is_alive", [False, True])
def test_a_next_run_that_is_too_late_counts_as_overdue(conn: Connection, is_alive: bool) -> None:
    make_schedule(conn, name="late", planned=PLANNED)
    leap(conn, "3 hours")
    make_schedule(conn, name="broken", cron_expr="odd", next_run_at=None)
    if is_alive:
        beat(conn, ME)
    assert count_overdue(conn) == len(list_overdue(conn)) == 2


@pytest.mark.parametrize(
    ("daemon", "is_seen"),
    [
        (ME, False),
        (replace(ME, has_scheduler=False), True),
        (replace(ME, drains=True), True),
        (replace(ME, version="sql"), True),
    ],
    ids=["planned", "without scheduler", "drains", "worker"],
)
def test_a_next_run_that_is_too_late_is_left_to_a_scheduler_that_lives(
    conn: Connection, daemon: DaemonRecord, is_seen: bool
) -> None:
    make_schedule(
        conn, name="late", planned=PLANNED, last_fire_at=SQL("now() - interval '2 hours'"),
        next_run_at=SQL("now() + interval '2 years'"), created_at=SQL("now() - interval '1 day'"),
        updated_at=SQL("now() - interval '1 day'"),
    )  # fmt: skip
    beat(conn, daemon)
    assert [each.name for each in list_overdue(conn)] == (["late"] if is_seen else [])
    assert count_overdue(conn) == is_seen


def test_next_runs_are_reckoned_once_for_each_timing(conn: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    reckoned: list[Timing] = []

    def counted(timing: Timing, *instants: Any) -> datetime:
        reckoned.append(timing)
        return expected_fire(timing, *instants)

    monkeypatch.setattr(leaps, "expected_fire", counted)
    insert = """
        INSERT INTO _ayb_job_schedules (name, job_type, cron_expr, planned, last_fire_at, next_run_at)
        SELECT 's' || number, 'test', cron, cron || ' UTC once', now() - interval '2 hours',
            now() + CASE number WHEN 1 THEN interval '2 years' ELSE interval '1 minute' END
        FROM generate_series(1, 300) AS number, LATERAL (SELECT '0 0 ' || 1 + number % 3 || ' 1 *' AS cron) AS timing
    """
    conn.execute(insert)
    assert [(each.name, each.reason) for each in list_overdue(conn)] == [("s1", "too_late")]
    assert len(reckoned) == 4  # once for each of three timings, and for the schedule that is too late
    conn.execute(
        "UPDATE _ayb_job_schedules SET next_run_at = now() + interval '2 years',"
        " last_fire_at = now() + interval '3 hours' + random() * interval '1 hour'"
    )
    reckoned.clear()
    assert len(list_too_late(conn)) == 300
    assert len(reckoned) == 6


def test_a_living_daemon_spares_the_reckoning_of_all_next_runs(
    conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_schedule(conn, planned=PLANNED, last_fire_at=SQL("now()"), next_run_at=SQL("now() + interval '1 day'"))
    conn.execute("UPDATE _ayb_job_schedules SET created_at = now(), updated_at = now(), watched_since = now()")
    beat(conn, ME)
    monkeypatch.setattr(leaps, "expected_fire", lambda *_: pytest.fail("reckoned"))
    assert count_overdue(conn) == len(list_overdue(conn)) == 0


def test_a_next_run_that_somebody_wrote_counts_as_overdue_while_no_scheduler_lives(conn: Connection) -> None:
    make_schedule(conn, planned=PLANNED, last_fire_at=SQL("now()"), next_run_at=SQL("now() + interval '1 day'"))
    assert count_overdue(conn) == len(list_overdue(conn)) == 1


def test_lint_names_a_next_run_that_is_too_late(database_url: str, conn: Connection) -> None:
    make_schedule(conn, name="late", planned=PLANNED)
    leap(conn, "3 hours")
    linted = subprocess.run(
        [PROGRAM, "schedules", "lint"],
        check=False,
        env=environment({"AYB_JOBS_DATABASE_URL": database_url}),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "late: its next run is" in linted.stdout, linted
    assert linted.returncode == 0
