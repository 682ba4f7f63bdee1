"""A hunt for deadlocks: limits, and those who lease under them, settle, recover and change them, all at once.

Workers in other languages lease under several limits in one transaction, and keep it open over a second call.
"""

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress

import psycopg
import pytest

from ayb_jobs.model.backoff import Backoff
from ayb_jobs.model.lifecycle import settle_result
from ayb_jobs.model.limits import NewLimit
from ayb_jobs.model.pauses import NewPause, PauseKind
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.fleet import limits, pauses
from ayb_jobs.storage.fleet.limits_of_file import follow_file
from ayb_jobs.storage.queue.beside_limits import lease_beside_limits
from ayb_jobs.storage.queue.limited import lease_limited
from ayb_jobs.storage.queue.settling import settle_jobs
from ayb_jobs.storage.rows import one_row
from tests.recovering import recover
from tests.sql_workers import lease, settle
from tests.storage.queue.test_limited import LANES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

HUNT_S = 10.0
LIMITS = {"one": 4, "two": 6, "twofold": 5}
LOAD = "INSERT INTO _ayb_jobs (type, limit_key) SELECT %s, number %% 5 FROM generate_series(1, 2000) AS number"
DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
# A look waits for a second at most, which hides a circle that is found no sooner.
DETECT = "SET deadlock_timeout = '50ms'"
RUNNING = "SELECT count(*) FROM _ayb_jobs WHERE state = 'running' AND limited_by = %s"
LOSE = """
    UPDATE _ayb_jobs SET lease_until = now() - interval '1 second'
    WHERE id = (SELECT id FROM _ayb_jobs WHERE state = 'running' ORDER BY random() LIMIT 1 FOR UPDATE SKIP LOCKED)
"""
DUE = "UPDATE _ayb_jobs SET run_at = now() WHERE state = 'queued' AND run_at > now()"


def work(conn: Connection, chance: random.Random) -> None:
    """Lease beside the limits and under all, in any order, and settle what was leased."""
    lease_beside_limits(conn, worker_id="w", lanes=LANES, types=list(LIMITS), limit=50, lease_s=60)
    leased = []
    for name in chance.sample(list(LIMITS), len(LIMITS)):
        found = lease_limited(conn, name, room=9, types=list(LIMITS), queues=["default"], worker_id="w", lease_s=60)
        leased += found.leased
    chance.shuffle(leased)
    now = time.monotonic()
    settle_jobs(conn, [settle_result(job, None, now, now) for job in leased], worker_id="w", now=now)


def lose(conn: Connection, chance: random.Random) -> None:
    """Have a lease run out, and recover what has."""
    del chance
    conn.execute(LOSE)
    recover(conn, backoff=Backoff())
    conn.execute(DUE)


def work_by_sql(conn: Connection, chance: random.Random) -> None:
    """Lease as a worker in another language: under several limits and more than once, in one transaction."""
    worker = f"sql-{conn.info.backend_pid}"
    leased = []
    with conn.transaction():
        for types in (chance.sample(list(LIMITS), 2), list(LIMITS)):
            leased += lease(conn, *types, worker=worker, n=chance.choice((1, 9)))
    for job in leased:
        with suppress(psycopg.errors.ObjectNotInPrerequisiteState, psycopg.errors.NoDataFound):  # its lease was lost
            settle(conn, job.id, job.lease_id)


def pause_key(conn: Connection, chance: random.Random) -> None:
    """Pause a key, and resume it."""
    del chance
    with conn.transaction():
        pauses.pause(conn, NewPause(kind=PauseKind.KEY, name="two/1"), by="ada")
    with conn.transaction():
        pauses.resume(conn, PauseKind.KEY, "two/1")
    time.sleep(0.05)


def follow(conn: Connection, chance: random.Random) -> None:
    """Follow a file that names the limits in any order, and changes them."""
    names = chance.sample(list(LIMITS), len(LIMITS))
    each = chance.randint(50, 1000)
    defined = [NewLimit(name=name, types=[name], max_running=LIMITS[name], key_max_running=each) for name in names]
    follow_file(conn, defined, by="file")
    time.sleep(0.05)


def change(conn: Connection, chance: random.Random) -> None:
    """Set a limit anew; the file leaves it alone then."""
    del chance
    with conn.transaction():
        limits.set_limit(conn, NewLimit(name="one", types=["one"], max_running=LIMITS["one"]), by="ada")
    time.sleep(0.05)


def test_limits_settling_recovery_and_changes_never_wait_for_each_other_in_a_circle(
    conn: Connection, database_url: str
) -> None:
    follow_file(conn, [NewLimit(name=name, types=[name], max_running=most) for name, most in LIMITS.items()], by="file")
    for name in LIMITS:
        conn.execute(LOAD, (name,))
    over = threading.Event()

    def keep_on(act: Callable[[Connection, random.Random], None], seed: int) -> int:
        turns, chance = 0, random.Random(seed)
        with closing(connect(database_url)) as own:
            own.execute(DETECT)
            while not over.is_set():
                act(own, chance)
                turns += 1
        return turns

    acts = (work, work, work_by_sql, work_by_sql, work_by_sql, lose, lose, change, follow, pause_key)
    with ThreadPoolExecutor(len(acts)) as pool:
        acting = [pool.submit(keep_on, act, seed) for seed, act in enumerate(acts)]
        end = time.monotonic() + HUNT_S
        try:
            while time.monotonic() < end and not any(each.done() for each in acting):
                for name, most in LIMITS.items():
                    assert one_row(conn.execute(RUNNING, (name,)))[0] <= most
        finally:
            over.set()
        turns = [each.result() for each in acting]
    assert min(turns) > 0
    assert one_row(conn.execute(DEADLOCKS)) == (0,)
    assert one_row(conn.execute("SELECT count(*) FROM _ayb_jobs WHERE state = 'completed'"))[0] > 0
