"""Measures batches beside plain jobs: `.venv/bin/python benchmarks/batches.py [--jobs 20000] [--rounds 3]`.

The same no-op jobs are enqueued and drained by one daemon, on one server that is thrown away: as plain jobs and as
members of one batch, enqueued at once; and as plain jobs and as batches of 100, enqueued by hundreds. In each round all
have their turn. CPU is that of the enqueuer, the daemon and the server. Beside it stands how long after a batch's last
end its callback was enqueued: after that end by its row, so that the statement that writes it counts in, and after the
commit of that statement, so that only what follows counts.
"""

import argparse
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import psycopg
from beside import Place, Tree, until

from ayb_jobs import NewJob, batch, enqueue_many
from ayb_jobs.embedded import EmbeddedPostgres
from ayb_jobs.lab.bench.idle import cpu_seconds
from ayb_jobs.lab.bench.scratch import DURABLE
from ayb_jobs.storage.database import Connection, connect

JOB = NewJob(type="beside_noop")
FEW = 100
LIMIT_S = 60.0
IDLE_CPU_S = 0.04
# By the database's clock, in milliseconds: behind the last end, and behind its commit.
DELAYS = """
    SELECT extract(epoch FROM batch.done_at - max(member.completed_at))::float8 * 1000,
        extract(epoch FROM batch.done_at - max(pg_xact_commit_timestamp(member.xmin)))::float8 * 1000
    FROM _ayb_job_batches AS batch JOIN _ayb_jobs AS member ON member.batch_id = batch.id
    GROUP BY batch.id
"""
DONE = """
    SELECT NOT EXISTS (SELECT FROM _ayb_jobs WHERE state IN ('queued', 'running'))
        AND NOT EXISTS (SELECT FROM _ayb_job_batches WHERE done_at IS NULL)
"""


def plain(conn: Connection, jobs: int) -> None:
    """Enqueue jobs without a batch."""
    enqueue_many(conn, [JOB] * jobs)


def by_hundreds(conn: Connection, jobs: int) -> None:
    """Enqueue jobs without a batch, a few at a time, in one transaction."""
    with conn.transaction():
        for _ in range(jobs // FEW):
            enqueue_many(conn, [JOB] * FEW)


def one_batch(conn: Connection, jobs: int) -> None:
    """Enqueue all as one batch."""
    with conn.transaction(), batch(conn, on_done=JOB) as made:
        made.enqueue_many([JOB] * jobs)


def many_batches(conn: Connection, jobs: int) -> None:
    """Enqueue them as batches of a few, in one transaction."""
    with conn.transaction():
        for _ in range(jobs // FEW):
            with batch(conn, on_done=JOB) as made:
                made.enqueue_many([JOB] * FEW)


BESIDE = {"one batch": "plain jobs", f"batches of {FEW}": "plain by hundreds"}
WAYS: Mapping[str, Callable[[Connection, int], None]] = {
    "plain jobs": plain,
    "one batch": one_batch,
    "plain by hundreds": by_hundreds,
    f"batches of {FEW}": many_batches,
}


def until_idle(pid: int) -> None:
    """Wait until a daemon has done what it does once, as it starts: it makes its HTTP service when it has time."""
    give_up = time.monotonic() + LIMIT_S
    before = cpu_seconds(pid)
    while True:
        time.sleep(2.0)
        after = cpu_seconds(pid)
        if after - before < IDLE_CPU_S:
            return
        if time.monotonic() > give_up:
            sys.exit(f"the daemon is not idle within {LIMIT_S:g} s")
        before = after


def measure(place: Place, tree: Tree, way: str) -> tuple[list[float], list[tuple[float, float]]]:
    """Return the CPU microseconds for each job, by process, and the delays of callbacks in milliseconds, both."""
    with place.database(tree, 0) as url, closing(connect(url)) as conn, tree.daemon(url) as pid:
        with closing(psycopg.connect(url, autocommit=True)) as watcher:
            until(watcher, "SELECT EXISTS (SELECT FROM _ayb_job_workers)", pause_s=0.1)
            until_idle(pid)
            began = (time.process_time(), cpu_seconds(pid), place.server_cpu_s())
            WAYS[way](conn, place.jobs)
            enqueued = time.process_time()
            until(watcher, DONE, pause_s=0.2)
            ended = (enqueued, cpu_seconds(pid), place.server_cpu_s())
        delays = [(row[0], row[1]) for row in conn.execute(DELAYS)]
    return [(end - begin) / place.jobs * 1e6 for begin, end in zip(began, ended, strict=True)], delays


def spread(values: Sequence[float]) -> str:
    """Return the median and the 99th percentile in words."""
    ordered = sorted(values)
    return f"{statistics.median(ordered):.1f} ms (p99 {ordered[int(len(ordered) * 0.99)]:.1f} ms)"


def main() -> None:
    """Measure each way in each round, and print medians, and ratios to plain jobs of the same round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    tree = Tree(name="this", root=Path(__file__).parent.parent)
    costs: defaultdict[str, list[list[float]]] = defaultdict(list)
    delays: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    with EmbeddedPostgres.throwaway(settings=DURABLE | {"track_commit_timestamp": "on"}) as server:
        place = Place(server, options.jobs)
        for number in range(options.rounds):
            for way in list(WAYS) if number % 2 else reversed(WAYS):
                cost, late = measure(place, tree, way)
                costs[way].append(cost)
                delays[way] += late
    for way in WAYS:
        parts = [statistics.median(costs) for costs in zip(*costs[way], strict=True)]
        told = f"{way:18} {sum(parts):6.1f} µs of CPU for each job (enqueuer, daemon, server: "
        told += ", ".join(f"{part:.1f}" for part in parts) + ")"
        if way in BESIDE:
            beside = zip(costs[way], costs[BESIDE[way]], strict=True)
            told += f", {statistics.median(sum(one) / sum(other) for one, other in beside):.2f} of {BESIDE[way]}"
        if delays[way]:
            behind_end, behind_commit = (spread(each) for each in zip(*delays[way], strict=True))
            told += f"; callback {behind_end} after the last end, {behind_commit} after its commit"
        print(told)


if __name__ == "__main__":
    main()
