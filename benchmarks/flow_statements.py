"""What `flow.py` measures without a daemon: a look that finds every key full, and enqueueing with unique keys."""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from beside import Place, Tree

from ayb_jobs import NewJob, Unique, enqueue, enqueue_many
from ayb_jobs.model.limits import NewLimit
from ayb_jobs.runtime.jobs.limited_look import MOST_STEPS
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.fleet import limits
from ayb_jobs.storage.queue.limited import lease_limited

LOOKS = 20
IN_BULK = 1000
# Enqueued one by one, of those that are enqueued in bulk.
ONE_BY_ONE = 20
LOAD_KEYS = """
    INSERT INTO _ayb_jobs (type, limit_key)
    SELECT 'beside_limited', 'key ' || number %% %(keys)s FROM generate_series(1, %(jobs)s) AS number
"""
UNDER = """
    SELECT _ayb_job_put_under(ARRAY(SELECT id FROM _ayb_jobs WHERE limited_by IS NULL LIMIT 50000))
"""
UNDER_LEFT = "SELECT EXISTS (SELECT FROM _ayb_jobs WHERE limited_by IS NULL)"


def measure_full(place: Place, tree: Tree, case: Any) -> dict[str, float]:
    """Return how long a look takes that finds all keys full, however many calls it needs; without keys, the limit."""
    keys, waiting = case.waiting_keys, case.waiting
    with place.database(tree, 0) as url, closing(connect(url)) as conn:
        conn.execute("SET statement_timeout = 0")
        given = {"key_max_running": 1} if keys else {"max_running": 1}
        with conn.transaction():
            limits.set_limit(conn, NewLimit(name="full", types=["beside_limited"], **given), by="benchmark")
        conn.execute(LOAD_KEYS, {"keys": max(keys, 1), "jobs": waiting})
        while conn.execute(UNDER_LEFT).fetchone() == (True,):
            conn.execute(UNDER)
        while look(conn):
            pass
        conn.execute("VACUUM (ANALYZE) _ayb_jobs")
        began = time.perf_counter()
        for _ in range(LOOKS):
            if look(conn):
                raise SystemExit("a key was not full")
        took_s = time.perf_counter() - began
    return {"ms for a look": took_s / LOOKS * 1000}


def look(conn: Connection) -> int:
    """Take a daemon's turn under the limit, of so many steps at most; return how many jobs were leased."""
    leased, after = 0, ""
    for _ in range(MOST_STEPS):
        found = lease_limited(
            conn,
            "full",
            room=500,
            types=["beside_limited"],
            queues=["default"],
            worker_id="w",
            lease_s=3600,
            after=after,
        )
        leased, after = leased + len(found.leased), found.after
        if not found.more:
            break
    return leased


def measure_enqueue(place: Place, tree: Tree, case: Any) -> dict[str, float]:
    """Return the CPU microseconds, of client and server, for each job that is enqueued: in bulk, and one by one."""
    with place.database(tree, 0) as url, closing(connect(url)) as conn:
        with cpu_us(place, place.jobs) as in_bulk:
            for first in range(0, place.jobs, IN_BULK):
                enqueue_many(conn, [job(number, unique=case.unique) for number in range(first, first + IN_BULK)])
        few = place.jobs // ONE_BY_ONE
        with cpu_us(place, few) as singly:
            for number in range(place.jobs, place.jobs + few):
                enqueue(conn, job(number, unique=case.unique))
    return {"µs of CPU a job, in bulk": in_bulk[0], "µs of CPU a job, one by one": singly[0]}


def job(number: int, *, unique: bool) -> NewJob:
    """Return a job, with a key that no other has if it is to be unique."""
    return NewJob(type="beside_noop", unique=Unique(key=str(number)) if unique else None)


@contextmanager
def cpu_us(place: Place, jobs: int) -> Iterator[list[float]]:
    """Give a list that holds, after the block, the CPU microseconds that it took for each of its jobs."""
    taken: list[float] = []
    began = time.process_time() + place.server_cpu_s()
    yield taken
    taken.append((time.process_time() + place.server_cpu_s() - began) / jobs * 1e6)
