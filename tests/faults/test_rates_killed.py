"""The rate of a limit over the handlers' own log: two daemons, one of which is killed and started anew."""

import signal
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from ayb_jobs.client.enqueueing import enqueue_many
from ayb_jobs.lab.checker import Run
from ayb_jobs.lab.torture import effects, event_log
from ayb_jobs.lab.torture.fleet import Setting
from ayb_jobs.lab.torture.workload import KEY_RATED, RATED, TENANTS
from ayb_jobs.model.limits import NewLimit
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.fleet import limits
from tests.eventually import eventually
from tests.faults.test_fast_recovery import two_daemons

EVERY_S, BURST = 0.1, 3
UNFINISHED = "SELECT count(*) FROM _ayb_jobs WHERE type LIKE 'torture_%rated' AND state IN ('queued', 'running')"


def beyond(runs: Sequence[Run], leased: Mapping[str, float]) -> list[str]:
    """Return each span of the log, from any start to any later one, in which more began than the rate allows.

    A handler begins behind its lease. So a span reaches back to the first lease of those that began in it.
    """
    found = []
    starts = sorted(runs, key=lambda run: run.started)
    for last, end in enumerate(starts):
        first_leased = float("inf")
        for first in range(last, -1, -1):
            first_leased = min(first_leased, leased[starts[first].lease_id])
            count, span_s = last - first + 1, end.started - first_leased
            if count > BURST + span_s / EVERY_S + 1e-4:
                found.append(f"{count} began within {span_s:.3f} s")
    return found


def leases(conn: Connection) -> tuple[dict[str, float], dict[str, str | None]]:
    """Return when the statement began that gave each lease, and the lease's key."""
    offset_s, _ = event_log.clock_offset(conn)
    given = [event for event in event_log.read(conn, offset_s) if event.leases]
    return (
        {str(event.lease_id): float(event.leased_at or 0.0) for event in given},
        {str(event.lease_id): event.limited_key for event in given},
    )


def began(folder: Path) -> list[Run]:
    """Return the runs that take a moment: those under the limits."""
    return [run for run in effects.read(folder) if run.ended is None or run.ended - run.started > 0.04]


@pytest.mark.timeout(120)
def test_in_no_span_of_the_handlers_log_do_more_begin_than_a_rate_allows_though_a_daemon_is_killed(
    database_url: str, tmp_path: Path
) -> None:
    setting = Setting(url=database_url, folder=tmp_path, lease_s=3, shutdown_s=1)
    with closing(connect(database_url)) as conn, two_daemons(setting) as daemons:
        event_log.install(conn)
        with conn.transaction():
            limits.set_limit(conn, NewLimit(name="all", types=[RATED], rate="10/s", burst=BURST), by="ada")
            limits.set_limit(conn, NewLimit(name="each", types=[KEY_RATED], key_rate="10/s", key_burst=BURST), by="ada")
        eventually(lambda: limits.count_unconfirmed(conn) == 0, within_s=30)
        job = NewJob(type=RATED, payload={"s": 0.05}, max_attempts=99)
        enqueue_many(conn, [job] * 40)
        enqueue_many(conn, [job._replace(type=KEY_RATED, limit_key=key) for key in TENANTS for _ in range(20)])
        eventually(lambda: len(began(tmp_path)) >= 30, within_s=60)
        last = max(began(tmp_path), key=lambda run: run.started)
        struck = next(daemon for daemon in daemons if daemon.name == last.writer)
        struck.send(signal.SIGKILL)
        struck.await_end()
        struck.start()
        eventually(lambda: conn.execute(UNFINISHED).fetchone() == (0,), within_s=60)
        leased, keys = leases(conn)
        runs = effects.read(tmp_path)
        assert len({run.writer for run in runs}) >= 2
        of_all = [run for run in runs if keys.get(run.lease_id) == ""]
        assert len(of_all) >= 40
        assert beyond(of_all, leased) == []
        for key in TENANTS:
            of_key = [run for run in runs if keys.get(run.lease_id) == key]
            assert len(of_key) >= 20
            assert beyond(of_key, leased) == []
