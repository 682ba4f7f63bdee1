"""Latency: an idle daemon, jobs 20 ms apart; from before the insert to the handler's start."""

import time
from collections.abc import Iterator
from contextlib import closing

from ayb_jobs.client.enqueueing import enqueue
from ayb_jobs.lab.bench.figures import Figure, Pair, figure, percentile
from ayb_jobs.lab.bench.processes import measured
from ayb_jobs.lab.bench.scratch import Bench
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.storage.database import Connection, connect

PACE_S = 0.02
MOST = 500
SETTLE_S = 1.5


def measure(bench: Bench) -> Iterator[Figure]:
    """Enqueue at a steady pace, beside a loop that listens, leases and settles by itself."""
    rounds = [(waits(bench, "daemon"), waits(bench, "listening")) for _ in range(bench.rounds)]
    for share in (0.5, 0.99):
        pairs = [Pair(percentile(ours, share) * 1000, percentile(bare, share) * 1000) for ours, bare in rounds]
        yield figure("latency", f"p{share * 100:g}", "ms", pairs)


def waits(bench: Bench, kind: str) -> list[float]:
    """Return how long each job waited, in seconds."""
    bench.tell(f"latency: {kind}")
    count = min(MOST, bench.jobs)
    with bench.database() as url, closing(connect(url)) as conn, measured(kind, url) as process:
        process.wait_for("ready")
        time.sleep(SETTLE_S)
        enqueue_paced(conn, count)
        return [process.wait_for("latency") for _ in range(count)]


def enqueue_paced(conn: Connection, count: int) -> None:
    """Enqueue jobs that tell when they were sent, at a steady pace."""
    began = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, began + number * PACE_S - time.monotonic()))
        enqueue(conn, NewJob(type="noop", payload={"sent": time.monotonic()}))
