"""Schedules in real daemons: alerts where the scheduler is dead, clocks that disagree, a fire for each second."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import TupleRow

from ayb_jobs.model.schedules.schedule import NewSchedule
from ayb_jobs.storage.schedules.schedules import create_schedule
from tests.acceptance.processes import daemon
from tests.eventually import eventually
from tests.receiver import Receiver

Conn = psycopg.Connection[TupleRow]

FAKETIME = next(iter(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), None)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


def add_each_second(conn: Conn, **values: Any) -> None:
    create_schedule(conn, NewSchedule(**{"name": "tick", "job_type": "quick", "cron": "* * * * * *", **values}))


def count(conn: Conn, statement: str) -> int:
    row = conn.execute(statement).fetchone()
    assert row is not None
    number: int = row[0]
    return number


def test_where_the_scheduler_is_dead_another_daemon_tells(
    tmp_path: Path, database_url: str, conn: Conn, receiver: Receiver
) -> None:
    add_each_second(conn, expect_success_within_s=3)
    with (
        daemon(tmp_path / "scheduler", database_url) as scheduler,
        daemon(tmp_path / "other", database_url, scheduler_enabled="false", alerts_webhooks=receiver.url) as other,
    ):
        eventually(lambda: count(conn, "SELECT count(*) FROM _ayb_jobs WHERE state = 'completed'") > 1, within_s=30)
        other.await_event("daemon.started")
        before = len(receiver.requests)
        scheduler.process.kill()
        told = eventually(
            lambda: [json.loads(each.body) for each in receiver.requests[before:] if b'"overdue"' in each.body],
            within_s=3 + 60,
        )
        assert told[0]["schedule"] == "tick"
        other.await_event("schedule.overdue")


def test_a_new_schedule_is_heard_of_before_the_next_look(tmp_path: Path, database_url: str, conn: Conn) -> None:
    with daemon(tmp_path, database_url, scheduler_tick_s=3600) as process:
        process.await_event("daemon.started")
        create_schedule(conn, NewSchedule(name="yearly", job_type="quick", cron="@yearly"))  # the scheduler looks once
        add_each_second(conn)
        eventually(lambda: count(conn, "SELECT count(*) FROM _ayb_job_fires") >= 2, within_s=20)


def test_a_replaced_handler_is_told_at_once_whatever_the_lease(tmp_path: Path, database_url: str, conn: Conn) -> None:
    with daemon(tmp_path, database_url, lease_duration_s=3600) as process:
        process.await_event("daemon.started")
        add_each_second(conn, job_type="patient", overlap="cancel_running")
        process.await_event("job.canceled")
        eventually(lambda: count(conn, "SELECT count(*) FROM _ayb_jobs WHERE state = 'running'") == 1, within_s=20)


@pytest.mark.skipif(FAKETIME is None, reason="libfaketime is not installed")
def test_hosts_whose_clocks_disagree_fire_each_second_once_and_on_the_databases_time(
    tmp_path: Path, database_url: str, conn: Conn, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []
    with ExitStack() as running:
        for offset in ("+2h", "-2h"):
            with monkeypatch.context() as environ:
                environ.setenv("LD_PRELOAD", str(FAKETIME))
                environ.setenv("FAKETIME", offset)
                environ.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
                other = running.enter_context(daemon(tmp_path / offset, database_url))
            started.append(datetime.fromisoformat(other.await_event("daemon.started")["ts"]))
        assert started[0] - started[1] > timedelta(hours=3)  # their clocks do disagree
        add_each_second(conn)
        eventually(lambda: count(conn, "SELECT count(*) FROM _ayb_job_fires") >= 6, within_s=40)
    seconds = "SELECT 1 + extract(epoch FROM max(fire_at) - min(fire_at))::int - count(*) FROM _ayb_job_fires"
    assert count(conn, seconds) == 0
    assert count(conn, "SELECT count(*) - count(DISTINCT scheduled_for) FROM _ayb_jobs") == 0
    far_off = "SELECT count(*) FROM _ayb_job_fires WHERE abs(extract(epoch FROM recorded_at - fire_at)) > 600"
    assert count(conn, far_off) == 0


def test_a_killed_schedulers_fires_are_made_up_for_by_the_next(tmp_path: Path, database_url: str, conn: Conn) -> None:
    add_each_second(conn, catchup="all", catchup_max=1000)
    with daemon(tmp_path / "first", database_url) as first:
        eventually(lambda: count(conn, "SELECT count(*) FROM _ayb_job_fires") >= 2, within_s=30)
        first.process.kill()
        first.wait()
    fires = count(conn, "SELECT count(*) FROM _ayb_job_fires")
    with daemon(tmp_path / "second", database_url):
        eventually(lambda: count(conn, "SELECT count(*) FROM _ayb_job_fires") >= fires + 3, within_s=30)
    seconds = "SELECT 1 + extract(epoch FROM max(fire_at) - min(fire_at))::int - count(*) FROM _ayb_job_fires"
    assert count(conn, seconds) == 0
    assert count(conn, "SELECT count(*) - count(DISTINCT scheduled_for) FROM _ayb_jobs") == 0
    assert count(conn, "SELECT count(*) FROM _ayb_job_fires WHERE job_id IS NULL") == 0
