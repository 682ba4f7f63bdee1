"""Drain: a backlog of no-op jobs, one daemon at its default settings."""

from collections.abc import Iterator
from typing import Any

from ayb_jobs.lab.bench.figures import Figure, Pair, figure
from ayb_jobs.lab.bench.processes import drain
from ayb_jobs.lab.bench.scratch import Bench, load_jobs, write_back


def measure(bench: Bench) -> Iterator[Figure]:
    """Drain a table just loaded and never analyzed: keeping what completes, then removing it."""
    kept = [Pair(backlog(bench, "daemon"), backlog(bench, "bare")) for _ in range(bench.rounds)]
    yield figure("drain", "history kept", "jobs/s", kept)
    removed = [
        Pair(backlog(bench, "daemon", completed_h=0), backlog(bench, "bare", remove=True)) for _ in range(bench.rounds)
    ]
    yield figure("drain", "removed on completion", "jobs/s", removed)


def backlog(bench: Bench, kind: str, **options: Any) -> float:
    """Return at what rate processes of one kind drain a fresh database."""
    bench.tell(f"drain: {kind}")
    with bench.database() as url:
        write_back(url)
        load_jobs(url, bench.jobs)
        return drain(kind, url, bench.jobs, **options).rate
