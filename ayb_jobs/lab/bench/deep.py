"""Deep tables: the drain on top of many finished jobs, at the head of a long backlog, below many delayed jobs.

What lies in the table before is vacuumed and analyzed: a vacuum of millions of new rows would take its part of the
machine during the drain.
"""

from collections.abc import Callable, Iterator

from ayb_jobs.lab.bench.figures import Figure, Pair, figure
from ayb_jobs.lab.bench.processes import drain
from ayb_jobs.lab.bench.scratch import Bench, load_finished, load_jobs, vacuum, write_back

DAY_S = 86400.0
# The last jobs of a queue go faster, since nothing is leased any more beside them. The first of a backlog have no such
# end.
SHARE = 0.8


def measure(bench: Bench) -> Iterator[Figure]:
    """Drain on a deep table of each kind, each time beside the drain on an empty one."""
    kinds: dict[str, Callable[[str], None]] = {
        f"on {bench.rows:,} finished": lambda url: load_finished(url, bench.rows),
        f"first of a backlog of {bench.jobs + bench.rows:,}": lambda url: load_jobs(url, bench.rows),
        f"with {bench.rows:,} delayed of higher priority": lambda url: load_jobs(
            url, bench.rows, priority=1, delay_s=DAY_S
        ),
    }
    for name, fill in kinds.items():
        rounds = [
            Pair(drained(bench, name, fill), drained(bench, "empty", lambda _url: None)) for _ in range(bench.rounds)
        ]
        yield figure("deep", name, "jobs/s", rounds, against="an empty table")


def drained(bench: Bench, name: str, fill: Callable[[str], None]) -> float:
    """Return at what rate a daemon drains a database that was filled before."""
    bench.tell(f"deep: {name}")
    with bench.database() as url:
        fill(url)
        vacuum(url)
        write_back(url)
        load_jobs(url, bench.jobs)
        return drain("daemon", url, bench.jobs).rate_of_first(SHARE)
