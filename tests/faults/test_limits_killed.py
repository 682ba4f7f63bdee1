"""A daemon that is killed while it runs jobs under a limit: the limit holds, and the places come back."""

import signal
from contextlib import closing
from pathlib import Path

import pytest

from ayb_jobs.client.enqueueing import enqueue_many
from ayb_jobs.lab.torture.fleet import Setting
from ayb_jobs.model.limits import NewLimit
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.storage.database import connect
from ayb_jobs.storage.fleet import limits
from tests.eventually import eventually
from tests.faults.test_fast_recovery import two_daemons

STATES = """
    SELECT count(*) FILTER (WHERE state = 'running'), count(*) FILTER (WHERE state = 'completed')
    FROM _ayb_jobs WHERE type = 'torture_work'
"""
OWNER = "SELECT worker_id FROM _ayb_jobs WHERE state = 'running' AND type = 'torture_work' LIMIT 1"
LOST = "SELECT count(*) FROM _ayb_job_executions WHERE outcome = 'lost'"
JOBS = 16


@pytest.mark.timeout(120)
def test_a_killed_daemon_loses_no_place_of_a_limit_and_lets_no_more_run(database_url: str, tmp_path: Path) -> None:
    setting = Setting(url=database_url, folder=tmp_path, lease_s=5, shutdown_s=1)
    counted: list[int] = []
    with closing(connect(database_url)) as conn, two_daemons(setting) as daemons:
        with conn.transaction():
            limits.set_limit(conn, NewLimit(name="few", types=["torture_work"], max_running=2), by="ada")
        enqueue_many(conn, [NewJob(type="torture_work", payload={"s": 0.5}, max_attempts=99) for _ in range(JOBS)])

        def completed() -> int:
            running, done = conn.execute(STATES).fetchone() or (0, 0)
            counted.append(running)
            return int(done)

        eventually(lambda: completed() >= 2, within_s=30)
        (owner,) = eventually(lambda: conn.execute(OWNER).fetchall())[0]
        next(daemon for daemon in daemons if f":{daemon.pid}:" in owner).send(signal.SIGKILL)
        eventually(lambda: completed() == JOBS, within_s=60)
        assert max(counted) == 2
        assert conn.execute(LOST).fetchone() in ((1,), (2,))


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_daemon_that_is_stopped_beyond_its_lease_leaves_the_database_exact_and_tells_of_it(
    database_url: str, tmp_path: Path
) -> None:
    """Its handler runs beside the one that took over. By the rows no more run than the limit says."""
    setting = Setting(url=database_url, folder=tmp_path, lease_s=3, shutdown_s=1)
    counted: set[int] = set()
    with closing(connect(database_url)) as conn, two_daemons(setting) as daemons:
        with conn.transaction():
            limits.set_limit(conn, NewLimit(name="few", types=["torture_work"], max_running=1), by="ada")
        enqueue_many(conn, [NewJob(type="torture_work", payload={"s": 600}, max_attempts=99) for _ in range(3)])

        def owner() -> str:
            """Return who runs a job, and note how many run."""
            counted.add((conn.execute(STATES).fetchone() or (0, 0))[0])
            found = conn.execute(OWNER).fetchone()
            return str(found[0]) if found else ""

        first = eventually(owner, within_s=60)
        stopped = next(daemon for daemon in daemons if f":{daemon.pid}:" in first)
        stopped.send(signal.SIGSTOP)
        try:
            eventually(lambda: owner() not in ("", first), within_s=60)
        finally:
            stopped.send(signal.SIGCONT)
        eventually(lambda: '"event":"lease.lost"' in stopped.log.read_text(), within_s=60)
        owner()
        assert counted <= {0, 1}
