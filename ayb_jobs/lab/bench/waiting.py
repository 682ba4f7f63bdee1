"""Waiting: 50 handlers at once that each wait 5 ms, as for a network; beside the most that 50 such can do."""

from collections.abc import Iterator

from ayb_jobs.lab.bench.drain import backlog
from ayb_jobs.lab.bench.figures import Figure, Pair, figure
from ayb_jobs.lab.bench.scratch import Bench

CONCURRENCY = 50
WORK_S = 0.005


def measure(bench: Bench) -> Iterator[Figure]:
    """Drain with handlers that wait."""
    rounds = [
        Pair(backlog(bench, "daemon", concurrency=CONCURRENCY, work_s=WORK_S), CONCURRENCY / WORK_S)
        for _ in range(bench.rounds)
    ]
    yield figure("waiting", f"{CONCURRENCY} handlers of {WORK_S * 1000:g} ms", "jobs/s", rounds, against="the ideal")
