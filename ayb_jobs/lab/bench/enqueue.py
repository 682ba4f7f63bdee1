"""Enqueue: job by job on one connection, each in a commit of its own; and in bulk.

Beside a call stands the bare statement that it sends, with its values ready: the same row, the same notification.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice

from ayb_jobs.client.enqueueing import enqueue, enqueue_many
from ayb_jobs.client.steps import time_ordered_ids
from ayb_jobs.lab.bench.figures import Figure, Pair, figure
from ayb_jobs.lab.bench.scratch import Bench
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.queue.enqueueing import COPY_DUE_JOBS, ENQUEUE, NOTIFY

# A call on one side, then one on the other, since the time of a commit keeps changing.
CALLS = 200
IN_BULK = 1000


def measure(bench: Bench) -> Iterator[Figure]:
    """Enqueue by our functions and by the bare statements, in turn on one connection."""
    bench.tell("enqueue: one by one")
    with bench.database() as url, closing(connect(url)) as conn:
        yield compare("one by one", conn, one_by_one, bare_inserts, jobs=bench.jobs, calls=CALLS)
    bench.tell("enqueue: in bulk")
    with bench.database() as url, closing(connect(url)) as conn:
        yield compare(f"{IN_BULK:,} a call", conn, in_bulk, bare_copy, jobs=bench.jobs * 5, at_once=IN_BULK)


Enqueue = Callable[[Connection, int], object]


def compare(
    name: str, conn: Connection, ours: Enqueue, bare: Enqueue, *, jobs: int, at_once: int = 1, calls: int = 1
) -> Figure:
    """Enqueue `jobs` in all, half of them on each side, so many at once, and return the rates of so many `calls`."""
    in_turn(conn, ours, bare, at_once, calls)
    rounds = [in_turn(conn, ours, bare, at_once, calls) for _ in range(max(3, jobs // (2 * at_once * calls)))]
    return figure("enqueue", name, "jobs/s", rounds)


def in_turn(conn: Connection, ours: Enqueue, bare: Enqueue, at_once: int, calls: int) -> Pair:
    """Return how many jobs are enqueued in a second, by so many calls of each, in turn."""
    took_s = {ours: 0.0, bare: 0.0}
    for _ in range(calls):
        for enqueue_some in took_s:
            began = time.perf_counter()
            enqueue_some(conn, at_once)
            took_s[enqueue_some] += time.perf_counter() - began
    return Pair(*(at_once * calls / max(seconds, 1e-9) for seconds in took_s.values()))


def one_by_one(conn: Connection, count: int) -> None:
    """Call `enqueue` so many times."""
    for number in range(count):
        enqueue(conn, NewJob(type="noop", payload={"n": number}))


def bare_inserts(conn: Connection, count: int) -> None:
    """Execute its statement so many times."""
    values = {
        "type": "noop",
        "payload": '{"n": 1}',
        "queue": "default",
        "priority": 2,
        "max_attempts": 3,
        "run_at": None,
        "delay": None,
        "idempotency_key": None,
        "traceparent": None,
    }
    for _ in range(count):
        conn.execute(ENQUEUE, values)


def in_bulk(conn: Connection, count: int) -> None:
    """Call `enqueue_many` once."""
    enqueue_many(conn, (NewJob(type="noop", payload={"n": number}) for number in range(count)))


def bare_copy(conn: Connection, count: int) -> None:
    """Copy as many rows, ready as text."""
    rows = "".join(f'{id_}\t{{"n": 1}}\tnoop\tdefault\t2\t3\t\\N\n' for id_ in islice(time_ordered_ids(), count))
    with conn.transaction(), conn.cursor() as cursor:
        with cursor.copy(COPY_DUE_JOBS) as copy:
            copy.write(rows)
        cursor.execute(NOTIFY)
