"""A daemon's row names its loops that make no progress, and who looks at the database alone hears of them."""

import asyncio
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from psycopg import sql

from ayb_jobs.checks.finding import Severity
from ayb_jobs.checks.fleet import stuck
from ayb_jobs.checks.verdict import look_round
from ayb_jobs.checks.why import why_job
from ayb_jobs.config import Retention
from ayb_jobs.daemon import build
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.model.daemons import DaemonRecord
from ayb_jobs.process.progress import loop_ages, stuck_names
from ayb_jobs.runtime.fleet import heartbeat
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.daemons import Troubles, beat, list_daemons
from ayb_jobs.storage.fleet.lifelines import look_at_fleet
from tests.acceptance.processes import daemon
from tests.cli.conftest import Cli
from tests.eventually import eventually
from tests.factories import make_job
from tests.running import running

ME = DaemonRecord(id="me", host="here", pid=1, version="1", concurrency=1, queues=["default"], types=["test"])
PEER = replace(ME, id="peer", host="there")


def stuck_loops(conn: Connection) -> list[Sequence[str]]:
    return [seen.stuck_loops for seen in list_daemons(conn)]


def test_a_row_names_the_loops_that_make_no_progress_for_as_long_as_they_do_not(
    database_url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ayb_jobs.process.progress.FAILING_S", 0.2)
    monkeypatch.setattr(heartbeat, "BEAT_S", 0.1)
    with running(database_url, Registry(), scheduler_enabled=True) as one:
        one.daemon.tell_stuck(lambda: stuck_names(loop_ages(one.daemon.loops())))
        eventually(lambda: stuck_loops(conn) == [[]], within_s=30)
        conn.execute("ALTER TABLE _ayb_job_schedules RENAME TO _away")
        eventually(lambda: stuck_loops(conn) == [["scheduler"]], within_s=30)
        conn.execute("ALTER TABLE _away RENAME TO _ayb_job_schedules")
        eventually(lambda: stuck_loops(conn) == [[]], within_s=30)


def test_health_fails_if_each_daemon_has_a_loop_without_progress(database_url: str, conn: Connection) -> None:
    health = Cli({"AYB_JOBS_DATABASE_URL": database_url, "AYB_JOBS_ENABLED": "true"})
    beat(conn, ME, Troubles({}, ["producer", "pruner"]))
    said = health("health")
    assert (said.code, said.out) == (1, "loops producer, pruner of the daemon make no progress\n")
    beat(conn, PEER)
    said = health("health")
    assert (said.code, said.out) == (0, "ok\n")
    assert "loops producer, pruner of 1 of 2 daemons make no progress: me" in said.err
    assert stuck(look_at_fleet(conn), host="there") is None
    here = stuck(look_at_fleet(conn), host="here")
    assert here is not None
    assert here.severity is Severity.FAILING
    beat(conn, PEER, Troubles({}, ["pruner"]))
    found = json.loads(health("doctor", "--json").out)["findings"]
    assert [each["fact"] for each in found if each["name"] == "daemon.stuck"] == [
        "loops producer, pruner of 2 of 2 daemons make no progress"
    ]
    for one in (ME, PEER):
        beat(conn, one, Troubles({}, ()))
    assert health("health").code == 0


def test_a_sign_of_life_of_who_knows_no_troubles_leaves_them_as_they_were_told(conn: Connection) -> None:
    beat(conn, ME, Troubles({"_ayb_jobs": {"a job": "odd"}}, ["pruner"]))
    beat(conn, ME)
    told = conn.execute("SELECT aside, stuck_loops FROM _ayb_job_workers").fetchone()
    assert told == ({"_ayb_jobs": {"a job": "odd"}}, ["pruner"])


@pytest.fixture
def ends() -> Iterator[threading.Event]:
    """What handlers wait for that hear nothing."""
    ends = threading.Event()
    yield ends
    ends.set()


@pytest.mark.parametrize("kind", ["thread", "async"])
def test_slots_that_deaf_handlers_hold_are_told_and_count_as_busy(
    database_url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch, ends: threading.Event, kind: str
) -> None:
    monkeypatch.setattr(build, "STOPPING_S", 0.1)
    monkeypatch.setattr(heartbeat, "BEAT_S", 0.1)
    monkeypatch.setattr(heartbeat, "HURRIED_BEAT_S", 0.1)
    registry, beside = Registry(), 0 if kind == "thread" else 2
    if kind == "thread":
        registry.handler("deaf", timeout_s=0.2)(lambda _: ends.wait(60))
    else:

        @registry.handler("deaf", timeout_s=0.2)
        async def deaf(_: object) -> None:
            while not ends.is_set():
                with suppress(asyncio.CancelledError):
                    await asyncio.sleep(0.01)

    def found() -> tuple[Severity, str] | None:
        told = look_round(conn, Retention()).stuck_handlers
        return None if told is None else (told.severity, told.fact)

    with running(database_url, registry, worker_concurrency=2, async_concurrency=2):
        make_job(conn, type="deaf", max_attempts=1)
        one = f"1 of the {2 + beside} slots of the daemon is held by a handler that was told to stop and did not"
        assert eventually(found, within_s=30) == (Severity.WARNING, one)
        make_job(conn, type="deaf", max_attempts=1)
        both = f"2 of the {2 + beside} slots of the daemon are held by handlers that were told to stop and did not"
        grave = Severity.WARNING if beside else Severity.FAILING
        eventually(lambda: found() == (grave, both), within_s=30)
        waits = make_job(conn, type="deaf", run_at=sql.SQL("now() - interval '2 minutes'"))
        eventually(
            lambda: conn.execute("SELECT state FROM _ayb_jobs WHERE id = %s", (waits,)).fetchone() == ("queued",)
        )
        reason = why_job(conn, waits).reason
        assert reason is not None
        assert reason.words.endswith("of the daemon that can run it are busy")
        late = {each.name: each for each in look_round(conn, Retention()).verdict.findings}["jobs.late"]
        assert ": all 2 slots" in late.told
        said = Cli({"AYB_JOBS_DATABASE_URL": database_url, "AYB_JOBS_ENABLED": "true"})("health")
        assert (said.code, said.out) == ((0, "ok\n") if beside else (1, f"{both}\n"))
        ends.set()
        eventually(lambda: found() is None, within_s=30)


@pytest.mark.slow
@pytest.mark.timeout(300)  # a minute is waited for, by a daemon that is slow to start on a busy machine
def test_a_process_tells_it_once_a_loop_has_failed_for_a_minute(
    tmp_path: Path, database_url: str, conn: Connection
) -> None:
    with daemon(tmp_path, database_url, scheduler_enabled="true") as process:
        process.await_event("daemon.started")
        conn.execute("ALTER TABLE _ayb_job_schedules RENAME TO _away")
        eventually(lambda: stuck_loops(conn) == [["scheduler"]], within_s=120)
