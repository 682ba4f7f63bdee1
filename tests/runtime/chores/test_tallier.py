"""What charts are drawn from: each ending is counted once in its minute, and the level is measured once for all."""

import threading
from datetime import timedelta

import pytest
from psycopg import errors

from ayb_jobs.config import Retention
from ayb_jobs.handlers.job_type import JobType
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.model.results import Snooze
from ayb_jobs.runtime.chores.pruner import Pruner
from ayb_jobs.runtime.chores.tallier import Tallier
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue import minutes
from ayb_jobs.storage.queue.minutes import Ended, list_levels, list_minutes
from tests.aside import set_aside
from tests.eventually import eventually
from tests.factories import make_job
from tests.running import running

HOUR = timedelta(hours=1)


def test_each_ending_is_counted_once_by_what_became_of_the_job(conn: Connection, database_url: str) -> None:
    known = Registry()
    known.add(JobType(name="good", run=lambda _: 7))
    known.add(JobType(name="bad", run=lambda _: 1 // 0))
    known.add(JobType(name="later", run=lambda _: Snooze(3600)))
    for name, attempts in (("good", 1), ("good", 1), ("bad", 1), ("bad", 2), ("later", 1)):
        make_job(conn, type=name, max_attempts=attempts)
    with running(database_url, known):
        ended = "SELECT count(*) FROM _ayb_job_executions"
        eventually(lambda: conn.execute(ended).fetchone() == (5,), within_s=20)
    assert [each[1:] for each in list_minutes(conn, span=HOUR, step=HOUR, job_type="good")] == [(2, 0, 0, 14)]
    assert [each[1:] for each in list_minutes(conn, span=HOUR, step=HOUR, job_type="bad")] == [(0, 1, 1, 0)]
    assert sum(each.completed + each.failed + each.retried for each in list_minutes(conn, span=HOUR, step=HOUR)) == 4


def test_daemons_add_to_one_row_and_one_of_them_measures_the_level(db: Database, conn: Connection) -> None:
    make_job(conn)
    make_job(conn, queue="other", run_at="2020-01-01T00:00:00Z")
    make_job(conn, run_at="2100-01-01T00:00:00Z")
    make_job(conn, "running")
    peers = [Tallier(db, lambda _: None), Tallier(db, lambda _: None)]
    for peer in peers:
        peer._add("mail", Ended(completed=2))
        peer.tick()
        peer.tick()
    assert sum(each.completed for each in list_minutes(conn, span=HOUR, step=HOUR)) == 4
    levels = list_levels(conn, span=HOUR)
    assert (levels[0].waiting, levels[0].running) == (2, 1)
    assert levels[0].oldest_wait_s > 5 * 365 * 86400
    assert len({each.at for each in levels}) == len(levels) <= 2


def test_what_could_not_be_written_is_written_later(db: Database, conn: Connection) -> None:
    told: list[object] = []
    tallier = Tallier(db, told.append)
    tallier._add("mail", Ended(completed=2))
    conn.execute("ALTER TABLE _ayb_job_minutes RENAME TO elsewhere")
    with pytest.raises(errors.UndefinedTable):
        tallier.flush()
    assert set_aside(told) == []
    conn.execute("ALTER TABLE elsewhere RENAME TO _ayb_job_minutes")
    tallier._add("mail", Ended(completed=1))
    tallier.tick()
    assert [each.completed for each in list_minutes(conn, span=HOUR, step=HOUR)] == [3]


def test_a_row_that_somebody_wrote_stops_no_count(db: Database, conn: Connection) -> None:
    conn.execute(
        "INSERT INTO _ayb_job_minutes SELECT date_trunc('minute', now()) + n * interval '1 minute', 'mail', 2^62::bigint"
        " FROM generate_series(-1, 1) AS n"
    )
    minutes.add_ended(conn, {"mail": Ended(completed=2**70)})


def test_minutes_are_kept_for_days(db: Database, conn: Connection) -> None:
    weeks = "now() - n * interval '7 days'"
    conn.execute(f"INSERT INTO _ayb_job_minutes (at, job_type) SELECT {weeks}, 'a' FROM generate_series(0, 2) AS n")
    conn.execute(f"INSERT INTO _ayb_job_levels SELECT {weeks}, 1, 1, 1 FROM generate_series(0, 2) AS n")
    Pruner(database=db, retention=Retention(), emit=lambda _: None, stopping=threading.Event()).tick()
    assert conn.execute("SELECT count(*) FROM _ayb_job_minutes").fetchone() == (2,)
    assert conn.execute("SELECT count(*) FROM _ayb_job_levels").fetchone() == (2,)


def test_each_step_holds_as_many_minutes_as_any_other(conn: Connection) -> None:
    with conn.transaction():  # the clock stands still in it
        conn.execute(
            "INSERT INTO _ayb_job_minutes (at, job_type, completed) "
            "SELECT date_trunc('minute', now()) - ago * interval '1 minute', 'a', 1 FROM generate_series(0, 90) AS ago"
        )
        found = list_minutes(conn, span=HOUR, step=timedelta(minutes=2))
    assert [each.completed for each in found] == [2] * 30
