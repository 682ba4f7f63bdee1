"""A job whose row an operator's open transaction has locked: it waits, and nothing else does."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, NoReturn

import pytest
from psycopg import OperationalError, sql

from ayb_jobs.events import LeasesLost
from ayb_jobs.handlers.context import JobContext
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.queue.leasing import lease_jobs
from tests.eventually import eventually
from tests.factories import make_job
from tests.running import running


@contextmanager
def locked(database_url: str, job_id: str) -> Iterator[None]:
    with closing(connect(database_url, name="operator")) as conn, conn.transaction():
        conn.execute("SELECT FROM _ayb_jobs WHERE id = %s FOR UPDATE", (job_id,))
        yield


def column(conn: Connection, job_id: str, name: str) -> object:
    row = conn.execute(
        sql.SQL("SELECT {} FROM _ayb_jobs WHERE id = %s").format(sql.Identifier(name)), (job_id,)
    ).fetchone()
    return row and row[0]


def short_runs() -> Registry:
    registry = Registry()

    @registry.handler("test")
    def run(ctx: JobContext) -> None:
        ctx.stopping.wait(0.5)

    return registry


def until_stopped() -> Registry:
    registry = Registry()

    @registry.handler("test")
    def run(ctx: JobContext) -> None:
        while not ctx.stopping.wait(0.1):
            pass

    return registry


def test_its_ending_is_written_once_the_lock_goes_and_others_at_once(database_url: str, conn: Connection) -> None:
    job_id = make_job(conn)
    with running(database_url, short_runs()):
        eventually(lambda: column(conn, job_id, "state") == "running")
        with locked(database_url, job_id):
            others = [make_job(conn) for _ in range(8)]
            eventually(lambda: all(column(conn, other, "state") == "completed" for other in others))
            assert column(conn, job_id, "state") == "running"
        eventually(lambda: column(conn, job_id, "state") == "completed")
    assert column(conn, job_id, "attempts") == 1


def test_other_leases_are_extended_meanwhile(database_url: str, conn: Connection) -> None:
    jobs = [make_job(conn) for _ in range(3)]
    with running(database_url, until_stopped(), lease_duration_s=3) as daemon:
        eventually(lambda: all(column(conn, job, "state") == "running" for job in jobs))
        with locked(database_url, jobs[0]):
            began = time.monotonic()
            eventually(lambda: time.monotonic() - began > 4.5)
        lost = {job_id for event in daemon.recorder.of(LeasesLost) for job_id in event.job_ids}
    assert lost == {jobs[0]}
    assert [column(conn, job, "crashes") for job in jobs[1:]] == [0, 0]


def test_it_is_given_back_once_the_lock_goes_and_keeps_no_ending_from_being_written(
    database_url: str, conn: Connection
) -> None:
    registry = Registry()

    @registry.handler("test")
    def run(ctx: JobContext) -> None:
        ctx.stopping.wait(30)
        if ctx.payload:
            ctx.check()
        else:
            time.sleep(0.3)

    held, ended = make_job(conn, payload={"returns": True}), make_job(conn)
    with running(database_url, registry) as daemon:
        eventually(lambda: column(conn, held, "state") == column(conn, ended, "state") == "running")
        with locked(database_url, held):
            stopping = threading.Thread(target=daemon.daemon.stop)
            stopping.start()
            eventually(lambda: column(conn, ended, "state") == "completed")
            assert column(conn, held, "state") == "running"
        stopping.join(20)
    assert (column(conn, held, "state"), column(conn, held, "attempts")) == ("queued", 0)


def test_a_job_of_a_lost_answer_is_given_back_at_a_stop_once_the_lock_goes(
    database_url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = threading.Event()

    def lease_and_lose(*args: Any, **values: Any) -> NoReturn:
        lost.wait()
        lease_jobs(*args, **values)
        lost.set()
        raise OperationalError("server closed the connection unexpectedly")

    job_id = make_job(conn)
    for statement in ("lease_jobs", "lease_beside_limits"):
        monkeypatch.setattr(f"ayb_jobs.runtime.jobs.look.{statement}", lease_and_lose)
    monkeypatch.setattr("ayb_jobs.storage.database.LATE_S", 600.0)
    with running(database_url, until_stopped()) as daemon:
        # It comes to stop before the next turn.
        monkeypatch.setattr(daemon.daemon._parts.releaser, "turn", lambda: None)
        lost.set()
        eventually(lambda: column(conn, job_id, "state") == "running")
        with locked(database_url, job_id):
            stopping = threading.Thread(target=daemon.daemon.stop)
            stopping.start()
            eventually(lambda: daemon.daemon._parts.releaser.orphans_left)
        stopping.join(20)
    assert (column(conn, job_id, "state"), column(conn, job_id, "attempts")) == ("queued", 0)
