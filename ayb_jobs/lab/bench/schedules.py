"""Schedules: how late a per-second one fires, and ten thousand that are due in the same second, with four daemons."""

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

from ayb_jobs.errors import AybJobsError
from ayb_jobs.lab.bench.figures import Figure, Pair, figure, percentile
from ayb_jobs.lab.bench.idle import environment
from ayb_jobs.lab.bench.processes import Stuck
from ayb_jobs.lab.bench.scratch import Bench
from ayb_jobs.storage.database import Connection, connect

DAEMONS = 4
SCHEDULES = 10_000
LEASE_S = 5
HELD_JOBS = 8
AHEAD_S = 15.0
WATCHED_S = 30.0
LIMIT_S = 60.0
# What is promised: the last of ten thousand within 5 s, and each second's fire within 250 ms of it.
PROMISED_BURST_S, PROMISED_DELAY_S = 5.0, 0.25

INSERT_BURST = """
    INSERT INTO _ayb_job_schedules (name, job_type, cron_expr)
    SELECT 'burst-' || number, 'noop',
        extract(second FROM moment)::int || ' ' || extract(minute FROM moment) || ' ' || extract(hour FROM moment)
            || ' * * *'
    FROM generate_series(1, %(count)s) AS number,
        (SELECT date_trunc('second', now() AT TIME ZONE 'UTC') + %(ahead_s)s * interval '1 second') AS due (moment)
"""
INSERT_EACH_SECOND = """
    INSERT INTO _ayb_job_schedules (name, job_type, cron_expr) VALUES ('each-second', 'noop', '* * * * * *')
"""
# Held for longer than their lease, so that it must be extended meanwhile.
INSERT_HELD = """
    INSERT INTO _ayb_jobs (id, type, payload, priority)
    SELECT _ayb_job_id(), 'hold', jsonb_build_object('seconds', %(seconds)s::float8), 1 FROM generate_series(1, %(count)s)
"""
DELAYS = """
    SELECT extract(epoch FROM fire.recorded_at - fire.fire_at)::float8
    FROM _ayb_job_fires AS fire JOIN _ayb_job_schedules AS schedule ON schedule.id = fire.schedule_id
    WHERE schedule.name LIKE %(names)s AND fire.job_id IS NOT NULL
"""
CHECK = """
    SELECT
        (SELECT count(*) FROM _ayb_jobs WHERE type = 'noop' AND scheduled_for IS NOT NULL),
        (SELECT count(DISTINCT (schedule_id, scheduled_for)) FROM _ayb_jobs WHERE scheduled_for IS NOT NULL),
        (SELECT count(*) FROM _ayb_job_fires WHERE outcome IN ('coalesced', 'skipped')),
        (SELECT count(*) FROM _ayb_job_executions WHERE outcome = 'lost')
"""


class BrokenPromise(AybJobsError):
    """The schedules did not do what is promised of them."""


def measure(bench: Bench) -> Iterator[Figure]:
    """Let four daemons compete for ten thousand schedules that are due at once, and for one that is due each second."""
    bursts: list[Pair] = []
    delays: list[Pair] = []
    for number in range(bench.rounds):
        bench.tell(f"schedules: {SCHEDULES:,} in one second, round {number + 1} of {bench.rounds}")
        with bench.database() as url:
            bursts.append(Pair(max(burst(url)), PROMISED_BURST_S))
        bench.tell(f"schedules: one each second, round {number + 1} of {bench.rounds}")
        with bench.database() as url:
            delays.append(Pair(percentile(each_second(url), 0.99), PROMISED_DELAY_S))
    name = f"{SCHEDULES:,} due in one second, last of them after"
    yield figure("schedules", name, "s", bursts, against="what is promised")
    yield figure("schedules", "one each second, p99 of its delay", "s", delays, against="what is promised")


def burst(url: str) -> Sequence[float]:
    """Return how late each of ten thousand schedules fired that were due in the same second."""
    with closing(connect(url)) as conn, daemons(url):
        conn.execute(INSERT_HELD, {"count": HELD_JOBS, "seconds": AHEAD_S + PROMISED_BURST_S})
        conn.execute(INSERT_BURST, {"count": SCHEDULES, "ahead_s": AHEAD_S})
        found = awaited(conn, "burst-%", SCHEDULES)
        check(conn)
    return found


def each_second(url: str) -> Sequence[float]:
    """Return how late a schedule fired that is due each second, second by second."""
    with closing(connect(url)) as conn:
        conn.execute(INSERT_EACH_SECOND)
        with daemons(url):
            awaited(conn, "each-second", 5)
            time.sleep(WATCHED_S)
            found = delays_of(conn, "each-second")
            check(conn)
    return found


@contextmanager
def daemons(url: str) -> Iterator[None]:
    """Run four daemons."""
    env = {**environment(url), "AYB_JOBS_LEASE_DURATION_S": str(LEASE_S), "AYB_JOBS_HANDLERS_PACKS": ""}
    command = [sys.executable, "-m", "ayb_jobs", "run"]
    running = [
        subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(DAEMONS)
    ]
    try:
        yield
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()


def awaited(conn: Connection, names: str, count: int) -> Sequence[float]:
    """Wait until so many fires have made their job, and return their delays."""
    give_up = time.monotonic() + LIMIT_S
    while time.monotonic() < give_up:
        found = delays_of(conn, names)
        if len(found) >= count:
            return found
        time.sleep(0.2)
    raise Stuck(f"{count} fires did not come within {LIMIT_S:g} s")


def delays_of(conn: Connection, names: str) -> Sequence[float]:
    """Return how many seconds after its time each fire made its job."""
    return [row[0] for row in conn.execute(DELAYS, {"names": names})]


def check(conn: Connection) -> None:
    """Raise `BrokenPromise` where a fire made two jobs or none, or a lease was lost meanwhile."""
    row = conn.execute(CHECK).fetchone()
    assert row is not None
    jobs, distinct, without_job, lost = row
    if jobs != distinct or without_job or lost:
        raise BrokenPromise(f"{jobs} jobs for {distinct} fires, {without_job} fires without a job, {lost} leases lost")
