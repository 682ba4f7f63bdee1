"""Killed at any step of a job's life, a daemon loses no job, and a peer completes each once."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from ayb_jobs import failpoints
from ayb_jobs.client.batches import batch
from ayb_jobs.client.enqueueing import enqueue
from ayb_jobs.lab.torture import event_log, fleet
from ayb_jobs.lab.torture.fleet import Daemon, Setting
from ayb_jobs.lab.torture.workload import TRANSACTION
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.storage.database import Connection, connect
from tests import forked
from tests.eventually import eventually

JOBS = 3
UNFINISHED = "SELECT count(*) FROM _ayb_jobs WHERE state IN ('queued', 'running') AND schedule_id IS NULL"
# What makes a daemon reach a step, where ordinary jobs do not.
STEPS = {
    failpoints.LEASED: "torture_work",
    failpoints.BEGUN: "torture_work",
    failpoints.ENDED: "torture_work",
    failpoints.SETTLING: "torture_work",
    failpoints.SETTLED: "torture_work",
    failpoints.EXTENDED: "torture_work",
    failpoints.RECOVERED: "torture_work",
    failpoints.FIRING: "torture_work",
    failpoints.FIRED: "torture_work",
    failpoints.RELEASED: "torture_work",
    failpoints.COMMITTING: TRANSACTION,
}
LONG = {failpoints.EXTENDED, failpoints.RELEASED}


@pytest.fixture
def setting(database_url: str, tmp_path: Path) -> Setting:
    setting = Setting(url=database_url, folder=tmp_path, lease_s=3, poll_ms=200, concurrency=1)
    setting.write_config()
    return setting


@pytest.fixture(autouse=True)
def _forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have daemons forked where the harness would execute them, as it does if their environment is a test's own."""
    monkeypatch.setattr(fleet, "subprocess", SimpleNamespace(Popen=forked.start, DEVNULL=subprocess.DEVNULL))


@pytest.fixture
def peer(setting: Setting) -> Iterator[Daemon]:
    daemon = Daemon(2, setting)
    yield daemon
    daemon.send(signal.SIGKILL)
    daemon.await_end()


def prepare(conn: Connection, step: str) -> None:
    event_log.install(conn)
    for _ in range(JOBS):
        payload = {"s": 2.5} if step in LONG else {}
        enqueue(conn, NewJob(type=STEPS[step], payload=payload, max_attempts=20))
    if step == failpoints.RECOVERED:
        conn.execute(
            "UPDATE _ayb_jobs SET state = 'running', attempts = 1, lease_id = gen_random_uuid(), worker_id = 'gone',"
            " lease_until = now(), execution_id = nextval('_ayb_job_execution_ids')"
        )


@pytest.mark.parametrize("step", [step for step in STEPS if step != failpoints.RELEASED])
def test_killed_at_a_step_nothing_is_lost(step: str, setting: Setting, peer: Daemon, conn: Connection) -> None:
    prepare(conn, step)
    victim = Daemon(1, setting)
    victim.start(environ={"AYB_JOBS_FAILPOINT": step})
    assert victim.await_end() == -signal.SIGKILL, f"{step} was never reached"
    peer.start()
    eventually(lambda: hurried(conn) == (0,), within_s=60)
    rows = "SELECT outcome FROM _ayb_job_executions WHERE job_type = %s AND outcome = 'completed'"
    assert len(conn.execute(rows, (STEPS[step],)).fetchall()) == JOBS
    if step == failpoints.COMMITTING:
        assert sorted(event_log.committed_effects(conn).values()) == [1] * JOBS


def test_killed_after_it_settled_a_parent_a_peer_frees_the_child(
    setting: Setting, peer: Daemon, conn: Connection
) -> None:
    event_log.install(conn)
    parent = enqueue(conn, NewJob(type="torture_work"))
    child = enqueue(conn, NewJob(type="torture_work", depends_on=[parent]))
    victim = Daemon(1, setting)
    victim.start(environ={"AYB_JOBS_FAILPOINT": failpoints.SETTLED})
    assert victim.await_end() == -signal.SIGKILL
    states = "SELECT state FROM _ayb_jobs WHERE id = ANY (%s) ORDER BY id"
    assert conn.execute(states, ([parent.id, child.id],)).fetchall() == [("completed",), ("queued",)]
    peer.start()
    eventually(lambda: conn.execute(UNFINISHED).fetchone() == (0,), within_s=30)


@pytest.mark.parametrize("step", [failpoints.SETTLED, failpoints.BATCH_LOCKED, failpoints.BATCH_CLOSED])
def test_killed_while_it_ends_a_batch_a_peer_ends_it_and_each_callback_is_made_once(
    step: str, setting: Setting, peer: Daemon, conn: Connection
) -> None:
    event_log.install(conn)
    called = NewJob(type="torture_work")
    with batch(conn, on_success=called, on_failure=called, on_done=called) as made:
        made.enqueue(NewJob(type="torture_work", max_attempts=20))
    victim = Daemon(1, setting)
    victim.start(environ={"AYB_JOBS_FAILPOINT": step})
    assert victim.await_end() == -signal.SIGKILL
    done = "SELECT count(*) FROM _ayb_job_batches WHERE done_at IS NOT NULL"
    assert conn.execute(done).fetchone() == (0,)
    peer.start()
    eventually(lambda: conn.execute(done).fetchone() == (1,), within_s=30)
    eventually(lambda: conn.execute(UNFINISHED).fetchone() == (0,), within_s=30)
    events = (
        "SELECT payload -> 'batch' ->> 'event' FROM _ayb_jobs WHERE batch_id IS NULL AND payload ? 'batch' ORDER BY 1"
    )
    assert conn.execute(events).fetchall() == [("done",), ("success",)]


def hurried(conn: Connection) -> tuple[object, ...] | None:
    """Make what waits for its backoff due, and count what has not ended."""
    conn.execute("UPDATE _ayb_jobs SET run_at = now() WHERE state = 'queued' AND run_at > now()")
    return conn.execute(UNFINISHED).fetchone()


def test_killed_after_giving_jobs_back_they_are_whole(setting: Setting, conn: Connection, database_url: str) -> None:
    """A second daemon is not needed to see it: what was given back has its attempt again."""
    prepare(conn, failpoints.RELEASED)
    victim = Daemon(1, setting)
    victim.start(environ={"AYB_JOBS_FAILPOINT": failpoints.RELEASED})
    victim.await_work()
    victim.send(signal.SIGTERM)
    assert victim.await_end() in (0, -signal.SIGKILL)
    with closing(connect(database_url)) as other:
        rows = other.execute("SELECT state, attempts FROM _ayb_jobs WHERE schedule_id IS NULL").fetchall()
    assert all(row in (("queued", 0), ("running", 1)) for row in rows), rows


def test_an_unarmed_step_does_nothing() -> None:
    failpoints.reach(failpoints.SETTLED)
