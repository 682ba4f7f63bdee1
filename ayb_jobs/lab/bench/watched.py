"""Watched: the drain on top of many finished jobs, while somebody keeps the daemon's dashboard open."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection

from ayb_jobs.lab.bench.figures import Figure, Pair, figure
from ayb_jobs.lab.bench.processes import drain
from ayb_jobs.lab.bench.scratch import Bench, load_finished, load_jobs, write_back

# As often as the script of a page that is open reads it anew.
EVERY_S = 2.0
# How soon it is tried again if the daemon does not serve yet.
AGAIN_S = 0.05
# The last jobs of a queue go faster, since nothing is leased any more beside them.
SHARE = 0.8


def measure(bench: Bench) -> Iterator[Figure]:
    """Drain watched and alone in turn. The daemon serves its dashboard in both."""
    rounds = [Pair(drained(bench, watch=True), drained(bench, watch=False)) for _ in range(bench.rounds)]
    yield figure("watched", f"on {bench.rows:,} finished, read every 2 s", "jobs/s", rounds, against="nobody looks")


def drained(bench: Bench, *, watch: bool) -> float:
    """Return at what rate a daemon drains while somebody looks at its first page, if `watch` says so."""
    bench.tell(f"watched: {'somebody looks' if watch else 'nobody looks'}")
    port = free_port()
    with bench.database() as url:
        load_finished(url, bench.rows)
        write_back(url)
        load_jobs(url, bench.jobs)
        with looking(port, watch=watch):
            return drain("daemon", url, bench.jobs, api_port=port).rate_of_first(SHARE)


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def looking(port: int, *, watch: bool) -> Iterator[None]:
    """Read the first page every two seconds for the time of the block, if `watch` says so."""
    over = threading.Event()
    looker = threading.Thread(target=look, args=(port, over), name="looker")
    if watch:
        looker.start()
    try:
        yield
    finally:
        over.set()
        if watch:
            looker.join()


def look(port: int, over: threading.Event) -> None:
    """Read it until it is over."""
    while not over.is_set():
        over.wait(EVERY_S if reads(port) else AGAIN_S)


def reads(port: int) -> bool:
    """Read the first page; tell whether it came."""
    try:
        with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
            connection.request("GET", "/")
            answer = connection.getresponse()
            answer.read()
            return answer.status == 200  # noqa: PLR2004 - HTTP's own number
    except OSError:
        return False
