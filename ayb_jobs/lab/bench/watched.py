"""Watched: the drain on top of many finished jobs, while somebody looks at how things stand every two seconds."""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

from ayb_jobs.checks.glance import glance
from ayb_jobs.config import Retention
from ayb_jobs.lab.bench.figures import Figure, Pair, figure
from ayb_jobs.lab.bench.processes import drain
from ayb_jobs.lab.bench.scratch import Bench, load_finished, load_jobs, write_back
from ayb_jobs.storage.database import connect

# As often as the dashboard's script and `top` read anew.
EVERY_S = 2.0
# The last jobs of a queue go faster, since nothing is leased any more beside them.
SHARE = 0.8


def measure(bench: Bench) -> Iterator[Figure]:
    """Drain watched and alone in turn."""
    rounds = [Pair(drained(bench, watch=True), drained(bench, watch=False)) for _ in range(bench.rounds)]
    yield figure("watched", f"on {bench.rows:,} finished, read every 2 s", "jobs/s", rounds, against="nobody looks")


def drained(bench: Bench, *, watch: bool) -> float:
    """Return at what rate a daemon drains beside somebody who looks, if `watch` says so."""
    bench.tell(f"watched: {'somebody looks' if watch else 'nobody looks'}")
    with bench.database() as url:
        load_finished(url, bench.rows)
        write_back(url)
        load_jobs(url, bench.jobs)
        with looking(url, watch=watch):
            return drain("daemon", url, bench.jobs).rate_of_first(SHARE)


@contextmanager
def looking(url: str, *, watch: bool) -> Iterator[None]:
    """Read what `top` and the overview show every two seconds for the time of the block, if `watch` says so."""
    over = threading.Event()
    looker = threading.Thread(target=look, args=(url, over), name="looker")
    if watch:
        looker.start()
    try:
        yield
    finally:
        over.set()
        if watch:
            looker.join()


def look(url: str, over: threading.Event) -> None:
    """Read it until it is over."""
    with closing(connect(url)) as conn:
        while not over.is_set():
            glance(conn, Retention())
            over.wait(EVERY_S)
