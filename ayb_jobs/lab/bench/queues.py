"""Many queues: a backlog spread over queues and priorities, one daemon that serves them all."""

from collections.abc import Iterator

from ayb_jobs.lab.bench.figures import Figure, Pair, figure
from ayb_jobs.lab.bench.processes import drain
from ayb_jobs.lab.bench.scratch import Bench, load_foreign, load_spread, write_back

COUNTS = (10, 50, 200)


def measure(bench: Bench) -> Iterator[Figure]:
    """Drain as many jobs from one queue and from several, in turn; then beside jobs of queues that nobody serves."""
    rounds: dict[int, list[Pair]] = {count: [] for count in COUNTS}
    beside: list[Pair] = []
    for _ in range(bench.rounds):
        one = spread(bench, 1)
        for count in COUNTS:
            rounds[count].append(Pair(spread(bench, count), one))
        beside.append(Pair(spread(bench, COUNTS[1], foreign=bench.rows), rounds[COUNTS[1]][-1].value))
    for count in COUNTS:
        yield figure("queues", f"{count} queues, 4 priorities", "jobs/s", rounds[count], against="one queue")
    name = f"{COUNTS[1]} queues, {bench.rows:,} jobs in others"
    yield figure("queues", name, "jobs/s", beside, against="none in others")


def spread(bench: Bench, count: int, *, foreign: int = 0) -> float:
    """Return at what rate a daemon drains a backlog that is spread over so many queues and four priorities."""
    bench.tell(f"queues: {count}")
    queues = [f"queue-{number}" for number in range(count)]
    with bench.database() as url:
        load_foreign(url, foreign)
        load_spread(url, bench.jobs, queues)
        write_back(url)
        return drain("daemon", url, bench.jobs, queues=queues).rate
