"""A standby in place of a primary, and its promotion under load."""

import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from ayb_jobs import WaitTimedOut, wait_for
from ayb_jobs.embedded import EmbeddedPostgres
from ayb_jobs.lab.checker import Fault, check
from ayb_jobs.lab.checker.evidence import DATABASE
from ayb_jobs.lab.torture import parse_faults, report, torture
from ayb_jobs.storage.database import connect
from ayb_jobs.storage.migrate import migrate
from tests.acceptance.processes import daemon, readiness
from tests.cli.conftest import Cli
from tests.cluster import Cluster
from tests.eventually import eventually
from tests.factories import make_job
from tests.pgbouncer import free_port
from tests.servers import short_folder

STANDBY = "the database takes no writes: it is a standby, or read-only"
STATES = "SELECT state FROM _ayb_jobs"


@pytest.fixture
def cluster(postgres: EmbeddedPostgres) -> Iterator[Cluster]:
    with short_folder() as folder, Cluster.running(postgres, folder) as cluster:
        yield cluster


def test_a_daemon_on_a_standby_waits_and_says_so_until_it_is_promoted(tmp_path: Path, cluster: Cluster) -> None:
    with closing(connect(cluster.primary.url())) as conn:
        migrate(conn)
        make_job(conn, type="quick")
    port = free_port()
    with daemon(
        tmp_path, cluster.standby.url(), api_enabled="true", api_port=port, scheduler_enabled="false"
    ) as running:
        failed = running.await_event("loop.failed")
        assert failed["loop"] == "start-up"
        assert "read-only" in str(failed)
        eventually(lambda: readiness(port) == (503, [STANDBY]), within_s=20)
        cli = Cli({"AYB_JOBS_ENABLED": "true", "AYB_JOBS_DATABASE_URL": cluster.standby.url()})
        assert STANDBY in cli("health").out
        cluster.promote()
        cluster.build_standby()
        with closing(connect(cluster.primary.url())) as conn:
            eventually(lambda: conn.execute(STATES).fetchall() == [("completed",)], within_s=30)
        eventually(lambda: readiness(port) == (200, []), within_s=20)
        assert [line["loop"] for line in running.events("loop.failed")] == ["start-up"]
        assert len(running.events("loop.recovered")) == 1


def test_a_result_is_waited_for_on_a_standby_too(cluster: Cluster) -> None:
    with closing(connect(cluster.primary.url())) as conn, closing(connect(cluster.standby.url())) as reader:
        migrate(conn)
        job_id = make_job(conn)
        eventually(lambda: reader.execute("SELECT to_regclass('_ayb_jobs')").fetchone() != (None,))
        eventually(lambda: reader.execute(STATES).fetchall() == [("queued",)])
        with pytest.raises(WaitTimedOut):
            wait_for(reader, job_id, timeout_s=0.1)
        conn.execute("UPDATE _ayb_jobs SET state = 'completed', completed_at = now()")
        assert wait_for(reader, job_id, timeout_s=20) is None


class Promotions:
    """Promotes the standby once in a while as a torture run goes on, so many times in all."""

    def __init__(self, cluster: Cluster, times: int) -> None:
        self.faults: list[Fault] = []
        self._cluster = cluster
        self._times = times

    def __call__(self, phase: str, _numbers: Mapping[str, float]) -> None:
        """Be told of a torture run's progress."""
        if phase != "faults" or len(self.faults) >= self._times:
            return
        began = time.monotonic()
        self._cluster.promote(both_live=len(self.faults) % 2 == 1)
        self._cluster.build_standby()
        self.faults.append(Fault("promotion", DATABASE, began, time.monotonic()))


def lose_nothing_over(times: int, cluster: Cluster, folder: Path) -> None:
    """Run a fleet while the standby is promoted so many times; assert that every promise was kept."""
    promotions = Promotions(cluster, times)
    result = torture(
        seconds=2 * times,
        seed=20_261_122,
        faults=parse_faults(f"kill={times}"),
        database_url=cluster.url,
        daemons=2,
        folder=folder,
        progress=promotions,
    )
    assert len(promotions.faults) == times
    evidence = replace(result.evidence, faults=[*result.evidence.faults, *promotions.faults])
    violations = check(evidence)
    assert not violations, report.failure(replace(result, evidence=evidence, violations=violations))
    assert result.figures.jobs > 30 * times
    assert result.figures.lost == 0


@pytest.mark.timeout(300)
def test_two_promotions_of_a_synchronous_standby_lose_nothing(tmp_path: Path, cluster: Cluster) -> None:
    lose_nothing_over(2, cluster, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_fifty_promotions_of_a_synchronous_standby_lose_nothing(tmp_path: Path, cluster: Cluster) -> None:
    lose_nothing_over(50, cluster, tmp_path)
