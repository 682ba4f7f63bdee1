"""A database that is slow, pooled or full, and what such a neighbour must not cost."""

import threading
from collections import Counter
from contextlib import ExitStack, closing
from itertools import count
from pathlib import Path

import pytest

from ayb_jobs.client.enqueueing import enqueue_many
from ayb_jobs.events import JobsReleased
from ayb_jobs.handlers.context import JobContext
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.lab.torture import parse_faults, report, torture
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.storage.database import Connection, connect
from tests.acceptance.processes import DaemonProcess, daemon
from tests.eventually import eventually
from tests.faults.proxy import Proxy
from tests.pgbouncer import PgBouncer
from tests.running import running

UNFINISHED = "SELECT count(*) FROM _ayb_jobs WHERE state IN ('queued', 'running')"
ENDED = "SELECT state, count(*) FROM _ayb_jobs GROUP BY state"


def test_a_slow_database_loses_no_lease(database_url: str, conn: Connection) -> None:
    """Half a second for each statement, and jobs that outlast their lease: still each runs once."""
    runs: Counter[str] = Counter()
    registry = Registry()

    @registry.handler("test")
    def run(ctx: JobContext) -> None:
        runs[ctx.job.id] += 1
        assert not ctx.stopping.wait(14)

    with Proxy.before(database_url) as proxy:
        proxy.delay_s = 0.5
        enqueue_many(conn, [NewJob(type="test") for _ in range(2)])
        with running(proxy.url, registry, lease_duration_s=12, worker_concurrency=2) as slow:
            eventually(lambda: conn.execute(ENDED).fetchall() == [("completed", 2)], within_s=100)
    assert not slow.recorder.of(JobsReleased)
    assert set(runs.values()) == {1}


@pytest.mark.timeout(300)
def test_a_fleet_behind_a_pooler_loses_nothing(database_url: str, pgbouncer: PgBouncer, tmp_path: Path) -> None:
    result = torture(
        seconds=4,
        seed=20_261_121,
        faults=parse_faults("kill=2,term=2,pause=1"),
        database_url=pgbouncer.url(database_url),
        daemons=2,
        folder=tmp_path,
    )
    assert result.passed, report.failure(result)
    assert result.figures.faults["kill"] == 2


def test_a_thousand_innocents_survive_a_pill(database_url: str, conn: Connection) -> None:
    """A job that always fails its handler fails alone, at its last attempt."""
    registry = Registry()

    @registry.handler("test")
    def run(ctx: JobContext) -> None:
        if ctx.payload.get("pill"):
            raise SystemExit

    enqueue_many(conn, [NewJob(type="test", max_attempts=1, payload={"pill": n == 500}) for n in range(1000)])
    with running(database_url, registry):
        eventually(
            lambda: dict(conn.execute(ENDED).fetchall()) == {"completed": 999, "failed": 1},
            within_s=60,
        )


@pytest.mark.slow  # before its last chance each job of a crash waits for up to half a minute
def test_a_job_that_kills_its_process_takes_hardly_any_other_job_with_it(
    tmp_path: Path, database_url: str, conn: Connection
) -> None:
    """Two daemons, each started again whenever it dies, as a supervisor does.

    Those that it killed with it twice begin for the last time at random times, of which one may be its own.
    """
    numbers = count(1)
    enqueue_many(
        conn,
        [
            NewJob(type="deadly" if number == 20 else "quick", payload={"s": 0.05}, max_attempts=10)
            for number in range(200)
        ],
    )
    with ExitStack() as stack:

        def started() -> DaemonProcess:
            return stack.enter_context(daemon(tmp_path / str(next(numbers)), database_url, lease_duration_s=5))

        supervised = [started(), started()]

        def ended() -> bool:
            for place, running_one in enumerate(supervised):
                if running_one.process.poll() is not None:
                    supervised[place] = started()
            return conn.execute(UNFINISHED).fetchone() == (0,)

        eventually(ended, within_s=100)
    by_type = "SELECT type, state, count(*) FROM _ayb_jobs GROUP BY type, state ORDER BY type"
    ends = {(kind, state): number for kind, state, number in conn.execute(by_type)}
    assert ends["deadly", "failed"] == 1
    assert ends["quick", "completed"] >= 197, ends


def test_a_job_that_cannot_be_written_down_waits_for_room(database_url: str, conn: Connection) -> None:
    """Disk full at each settling: the endings are kept, and written once there is room."""
    over = threading.Event()
    registry = Registry()

    @registry.handler("test")
    def run(ctx: JobContext) -> None:
        over.set()

    with closing(connect(database_url)) as other:
        other.execute(
            "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$"
        )
        other.execute(
            "CREATE TRIGGER full_disk BEFORE INSERT ON _ayb_job_executions FOR EACH ROW EXECUTE FUNCTION full_disk()"
        )
        enqueue_many(conn, [NewJob(type="test")])
        with running(database_url, registry) as full:
            assert over.wait(20)
            eventually(lambda: any(loop.failing for loop in full.daemon.loops() if loop.name == "completer"))
            other.execute("DROP TRIGGER full_disk ON _ayb_job_executions")
            eventually(lambda: conn.execute(ENDED).fetchall() == [("completed", 1)], within_s=30)
    assert conn.execute("SELECT attempt FROM _ayb_job_executions").fetchall() == [(1,)]
