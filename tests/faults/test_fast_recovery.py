"""A killed daemon's jobs run again on a peer long before their leases run out; through a pooler, soon after that."""

import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median

import pytest

from ayb_jobs.client.enqueueing import enqueue
from ayb_jobs.lab.torture.fleet import Daemon, Setting
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.runtime.fleet.lifeline import SETTLE_S
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.fleet.daemons import list_daemons
from tests.eventually import eventually
from tests.pgbouncer import PgBouncer

# So long that only fast recovery can explain a recovery.
LEASE_S = 600
BOUND_S = 2.0
GUARDED = "SELECT count(*) FROM _ayb_job_workers WHERE guarded AND heartbeat_at > now() - interval '1 minute'"
LEASE = "SELECT lease_id, worker_id FROM _ayb_jobs WHERE state = 'running' AND type = 'torture_work'"
LEASE_UNTIL = "SELECT lease_until FROM _ayb_jobs WHERE lease_id = %s"
FOUND_LOST = "SELECT ended_at FROM _ayb_job_executions WHERE lease_id = %s AND outcome = 'lost'"
DUE_NOW = "UPDATE _ayb_jobs SET run_at = now() WHERE type = 'torture_work'"


@contextmanager
def two_daemons(setting: Setting) -> Iterator[list[Daemon]]:
    setting.write_config()
    daemons = [Daemon(number, setting) for number in (1, 2)]
    for daemon in daemons:
        daemon.start()
    try:
        yield daemons
    finally:
        for daemon in daemons:
            daemon.send(signal.SIGKILL)
            daemon.await_end()


@pytest.fixture
def fleet(database_url: str, tmp_path: Path) -> Iterator[list[Daemon]]:
    with two_daemons(Setting(url=database_url, folder=tmp_path, lease_s=LEASE_S, shutdown_s=1)) as daemons:
        yield daemons


def recoveries(fleet: list[Daemon], conn: Connection, times: int) -> list[float]:
    """Kill whoever runs the job, so many times; return how long each time it took until the other ran it."""
    enqueue(conn, NewJob(type="torture_work", payload={"s": 3600}, max_attempts=1000))
    taken = []
    for _ in range(times):
        eventually(lambda: conn.execute(GUARDED).fetchone() == (2,), within_s=60)
        lease_id, worker_id = eventually(lambda: conn.execute(LEASE).fetchall(), within_s=60)[0]
        victim = next(daemon for daemon in fleet if f":{daemon.pid}:" in worker_id)
        time.sleep(SETTLE_S + 1)  # a daemon judges nobody sooner
        began = time.monotonic()
        victim.send(signal.SIGKILL)
        eventually(lambda: (conn.execute(LEASE).fetchone() or (lease_id,))[0] != lease_id, within_s=60)
        taken.append(time.monotonic() - began)
        victim.await_end()
        victim.start()
    return sorted(taken)


@pytest.mark.timeout(300)
def test_a_killed_daemons_job_runs_again_at_once(fleet: list[Daemon], database_url: str) -> None:
    with closing(connect(database_url)) as conn:
        taken = recoveries(fleet, conn, 3)
    assert median(taken) <= BOUND_S, taken
    assert max(taken) <= 5 * BOUND_S, taken  # of so few the 99th percentile is the largest, which a busy machine delays


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_hundred_killed_daemons_jobs_run_again_within_two_seconds(fleet: list[Daemon], database_url: str) -> None:
    with closing(connect(database_url)) as conn:
        taken = recoveries(fleet, conn, 100)
    print(f"median {median(taken):.2f} s, p99 {taken[98]:.2f} s")
    assert taken[98] <= BOUND_S, taken


@pytest.mark.timeout(300)
def test_through_a_pooler_a_lost_job_is_found_soon_after_its_lease(
    database_url: str, conn: Connection, pgbouncer: PgBouncer, tmp_path: Path
) -> None:
    setting = Setting(url=pgbouncer.url(database_url), folder=tmp_path, lease_s=2, poll_ms=100, shutdown_s=1)
    enqueue(conn, NewJob(type="torture_work", payload={"s": 3600}, max_attempts=1000))
    late = []
    with two_daemons(setting) as daemons:
        eventually(lambda: len(list_daemons(conn)) == len(daemons), within_s=60)
        for _ in range(3):
            lease_id, worker_id = eventually(lambda: conn.execute(LEASE).fetchall(), within_s=60)[0]
            victim = next(daemon for daemon in daemons if f":{daemon.pid}:" in worker_id)
            victim.send(signal.SIGKILL)
            victim.await_end()
            until = conn.execute(LEASE_UNTIL, (lease_id,)).fetchall()[0][0]
            found = eventually(lambda: conn.execute(FOUND_LOST, (lease_id,)).fetchall(), within_s=60)[0][0]
            late.append((found - until).total_seconds())
            victim.start()
            conn.execute(DUE_NOW)
    assert min(late) >= 0
    assert median(late) <= BOUND_S, late
    assert max(late) <= 5 * BOUND_S, late  # a busy machine delays the largest
