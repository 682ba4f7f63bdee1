"""Several daemons on one queue, beside one alone, and how evenly they share its jobs."""

from collections.abc import Iterator

from ayb_jobs.lab.bench.figures import Figure, Pair, figure
from ayb_jobs.lab.bench.processes import Drained, drain
from ayb_jobs.lab.bench.scratch import Bench, load_jobs

COUNTS = (2, 4, 8)


def measure(bench: Bench) -> Iterator[Figure]:
    """Drain with one daemon, then with several together, in turn."""
    rounds: dict[int, list[Drained]] = {count: [] for count in (1, *COUNTS)}
    for _ in range(bench.rounds):
        for count, drained in rounds.items():
            drained.append(together(bench, count))
    alone = rounds.pop(1)
    for count, drained in rounds.items():
        rates = [Pair(several.rate, one.rate) for several, one in zip(drained, alone, strict=True)]
        yield figure("daemons", f"{count} daemons", "jobs/s", rates, against="one daemon")
    shared = [drained.parts for drained in rounds[COUNTS[-1]]]
    for name, parts in {"most": [max(each) for each in shared], "least": [min(each) for each in shared]}.items():
        of_one = [Pair(part, bench.jobs / COUNTS[-1]) for part in parts]
        yield figure("daemons", f"{COUNTS[-1]} daemons, {name} jobs of one", "jobs", of_one, against="an equal share")


def together(bench: Bench, count: int) -> Drained:
    """Have so many daemons drain a backlog that is there once all of them have started."""
    bench.tell(f"daemons: {count}")
    with bench.database() as url:
        return drain("daemon", url, bench.jobs, processes=count, once_ready=lambda: load_jobs(url, bench.jobs))
