"""Several daemons on one queue, beside one alone."""

from collections.abc import Iterator

from ayb_jobs.lab.bench.figures import Figure, Pair, figure
from ayb_jobs.lab.bench.processes import drain
from ayb_jobs.lab.bench.scratch import Bench, load_jobs

COUNTS = (2, 4, 8)


def measure(bench: Bench) -> Iterator[Figure]:
    """Drain with one daemon, then with several together, in turn."""
    rounds: dict[int, list[Pair]] = {count: [] for count in COUNTS}
    for _ in range(bench.rounds):
        alone = together(bench, 1)
        for count in COUNTS:
            rounds[count].append(Pair(together(bench, count), alone))
    for count in COUNTS:
        yield figure("daemons", f"{count} daemons", "jobs/s", rounds[count], against="one daemon")


def together(bench: Bench, count: int) -> float:
    """Return at what rate so many daemons drain a backlog that is there once all of them have started."""
    bench.tell(f"daemons: {count}")
    with bench.database() as url:
        return drain("daemon", url, bench.jobs, processes=count, once_ready=lambda: load_jobs(url, bench.jobs)).rate
