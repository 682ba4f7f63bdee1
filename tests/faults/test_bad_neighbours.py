"""A database that is slow, pooled or full, and what such a neighbour must not cost."""

import threading
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from ayb_jobs.events import JobsReleased
from ayb_jobs.handlers.context import JobContext
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.model.job import NewJob
from ayb_jobs.storage.bulk import enqueue_many
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.torture import parse_faults, report, torture
from tests.eventually import eventually
from tests.faults.proxy import Proxy
from tests.pgbouncer import PgBouncer
from tests.running import running

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
        with running(proxy.url, registry, lease_duration_s=12, worker_concurrency=2) as daemon:
            eventually(lambda: conn.execute(ENDED).fetchall() == [("completed", 2)], within_s=100)
    assert not daemon.recorder.of(JobsReleased)
    assert set(runs.values()) == {1}


@pytest.mark.timeout(300)
def test_a_fleet_behind_a_pooler_loses_nothing(database_url: str, pgbouncer: PgBouncer, tmp_path: Path) -> None:
    result = torture(
        seconds=10,
        seed=20_261_121,
        faults=parse_faults("kill=4,term=3,pause=1"),
        database_url=pgbouncer.url(database_url),
        daemons=2,
        folder=tmp_path,
    )
    assert result.passed, report.failure(result)
    assert result.figures.faults["kill"] == 4


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
        with running(database_url, registry) as daemon:
            assert over.wait(20)
            eventually(lambda: any(loop.failing for loop in daemon.daemon.loops() if loop.name == "completer"))
            other.execute("DROP TRIGGER full_disk ON _ayb_job_executions")
            eventually(lambda: conn.execute(ENDED).fetchall() == [("completed", 1)], within_s=30)
    assert conn.execute("SELECT attempt FROM _ayb_job_executions").fetchall() == [(1,)]
