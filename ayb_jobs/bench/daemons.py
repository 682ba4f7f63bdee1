"""Several daemons on one queue, beside one alone."""

from collections.abc import Iterator

from ayb_jobs.bench.drain import backlog
from ayb_jobs.bench.figures import Figure, Pair, figure
from ayb_jobs.bench.scratch import Bench

COUNTS = (2, 4, 8)


def measure(bench: Bench) -> Iterator[Figure]:
    """Drain with one daemon, then with several together, in turn."""
    rounds: dict[int, list[Pair]] = {count: [] for count in COUNTS}
    for _ in range(bench.rounds):
        alone = backlog(bench, "daemon")
        for count in COUNTS:
            rounds[count].append(Pair(backlog(bench, "daemon", processes=count), alone))
    for count in COUNTS:
        yield figure("daemons", f"{count} daemons", "jobs/s", rounds[count], against="one daemon")
