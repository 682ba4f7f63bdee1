"""Who is alive, and which jobs nobody can run."""

from contextlib import closing

import pytest
from psycopg import sql

from ayb_jobs.checks.fleet import unclaimable, unclaimable_behind
from ayb_jobs.errors import AybJobsError
from ayb_jobs.model.daemons import DaemonRecord
from ayb_jobs.model.waiting import Reason
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.daemons import beat, list_daemons
from ayb_jobs.storage.fleet.unclaimable import (
    Unclaimable,
    UnclaimableTypes,
    count_unclaimable,
    unclaimable_by_all,
    unclaimable_jobs,
)
from ayb_jobs.storage.fleet.waiting import live_runners, why_waiting
from ayb_jobs.storage.queue.jobs import get_job
from ayb_jobs.storage.schedules.planning import Plan, save_plans
from tests.factories import make_job, make_schedule


def daemon(name: str, *, types: list[str], queues: list[str]) -> DaemonRecord:
    return DaemonRecord(id=name, host="here", pid=1, version="1", concurrency=1, queues=queues, types=types)


def told(reason: Reason | None) -> str:
    return "" if reason is None else reason.words


def test_a_known_type_in_an_unserved_queue_is_not_told_as_unknown(conn: Connection) -> None:
    make_job(conn, type="known", queue="served")
    make_job(conn, type="known", queue="unserved")
    make_job(conn, type="unknown", queue="unserved")
    found = count_unclaimable(conn, types=["known"], queues=["served"])
    assert found == Unclaimable(types={"unknown": 1}, queues={"unserved": 1})


def test_a_job_is_unclaimable_unless_one_daemon_knows_its_type_and_serves_its_queue(conn: Connection) -> None:
    beat(conn, daemon("one", types=["a"], queues=["first"]))
    beat(conn, daemon("two", types=["b"], queues=["second"]))
    make_job(conn, type="a", queue="first")
    make_job(conn, type="a", queue="second")
    assert unclaimable_jobs(conn).by_type == {"a": 1}


BACKLOG = """
    INSERT INTO _ayb_jobs (type, priority, run_at)
    SELECT 'known', 2, now() - interval '1 hour' + number * interval '1 ms' FROM generate_series(1, 25000) AS number
"""


def test_no_backlog_hides_the_jobs_of_another_lane_that_nobody_can_run(conn: Connection) -> None:
    beat(conn, daemon("one", types=["known"], queues=["default"]))
    conn.execute(BACKLOG)
    make_job(conn, type="strange", priority=3)
    make_job(conn, type="strange", priority=2)  # the newest of the backlog's own lane
    make_job(conn, type="known", queue="unserved", priority=4)
    seen = unclaimable_by_all(conn)
    assert (seen.types, seen.queues, seen.total, seen.cut) == ({"strange": 2}, {"unserved": 1}, 3, True)
    found = count_unclaimable(conn, types=["known"], queues=["default"])
    assert (found.types, found.queues) == ({"strange": 2}, {"unserved": 1})


def test_doctor_looks_for_jobs_that_nobody_can_run_amid_a_backlog_and_says_if_that_is_too_long(
    conn: Connection,
) -> None:
    beat(conn, daemon("one", types=["known"], queues=["default"]))
    conn.execute(BACKLOG)
    assert list(unclaimable_behind(conn)) == []
    with pytest.raises(AybJobsError, match="more than 12,000 jobs are due"):
        list(unclaimable_behind(conn, look=12_000))
    make_job(conn, type="strange", priority=2, run_at=sql.SQL("now() - interval '1 hour' + interval '12500 ms'"))
    assert unclaimable(conn) is None
    assert unclaimable_jobs(conn) == UnclaimableTypes({}, cut=True)
    (found,) = unclaimable_behind(conn)
    assert found.told == "1 due job waits that no live daemon can run: none knows type `strange`"


@pytest.mark.parametrize("at", ["'infinity'", "now() + interval '1 hour'", "now() - interval '1 hour'", "'-infinity'"])
def test_a_beat_far_from_now_is_no_sign_of_life(conn: Connection, at: str) -> None:
    beat(conn, daemon("one", types=["a"], queues=["default"]))
    conn.execute(sql.SQL("UPDATE _ayb_job_workers SET heartbeat_at = {}").format(sql.SQL(at)))
    make_job(conn, type="a")
    assert (list_daemons(conn), live_runners(conn), unclaimable_jobs(conn).by_type) == ([], [], {"a": 1})


@pytest.mark.parametrize("names", ["{NULL}", "{a,NULL}", "{{a,b},{c,NULL}}"])
def test_any_array_of_names_can_be_read(conn: Connection, names: str) -> None:
    beat(conn, daemon("one", types=["a"], queues=["default"]))
    conn.execute("UPDATE _ayb_job_workers SET types = %s, queues = %s", (names, names))
    make_job(conn, type="z")
    assert None not in live_runners(conn)[0].types
    assert None not in list_daemons(conn)[0].daemon.queues
    assert unclaimable_jobs(conn).by_type == {"z": 1}


def test_a_running_job_whose_daemon_is_gone_says_so(conn: Connection) -> None:
    beat(conn, daemon("alive", types=["test"], queues=["default"]))
    held, abandoned, foreign = (
        get_job(conn, make_job(conn, "running", worker_id=name, lease_id=sql.SQL(lease)))
        for name, lease in (("alive", "gen_random_uuid()"), ("dead", "gen_random_uuid()"), ("ayb", "NULL"))
    )
    assert why_waiting(conn, held) is None
    assert why_waiting(conn, foreign) is None
    assert told(why_waiting(conn, abandoned)).startswith("its daemon dead is gone; the job is due again once")


def test_a_database_that_reads_null_as_a_word_changes_nothing(conn: Connection, database_url: str) -> None:
    (name,) = conn.execute("SELECT current_database()").fetchone() or ("",)
    conn.execute(sql.SQL("ALTER DATABASE {} SET array_nulls = off").format(sql.Identifier(name)))
    schedule_id = make_schedule(conn)
    with closing(Database(database_url, name="test")) as db:
        with db.transaction() as ours:
            save_plans(ours, [Plan(schedule_id, None, "broken")])
        with db.work() as ours:
            save_plans(ours, [Plan(schedule_id, None, "broken")])
