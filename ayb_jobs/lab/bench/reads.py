"""Reads: what an operator asks of a table with many finished jobs."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing

from ayb_jobs.lab.bench.figures import Figure, Pair, figure
from ayb_jobs.lab.bench.scratch import Bench, load_finished, load_jobs, write_back
from ayb_jobs.model.job import JobState
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.queue.jobs import get_job, list_jobs
from ayb_jobs.storage.queue.stats import job_stats

TIMES = 20


def measure(bench: Bench) -> Iterator[Figure]:
    """Ask a table of `rows` finished jobs, and one that holds no more than a page of them."""
    with bench.database() as deep, bench.database() as small:
        for url, rows in ((deep, bench.rows), (small, 100)):
            bench.tell(f"reads: filling in {rows:,} finished jobs")
            load_finished(url, rows)
            load_jobs(url, 100)
            write_back(url)
        with closing(connect(deep)) as conn, closing(connect(small)) as easy:
            some = list_jobs(conn, limit=1)[0].id, list_jobs(easy, limit=1)[0].id
            asked: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
                "list": (lambda: list_jobs(conn), lambda: list_jobs(easy)),
                "list of one state": (lambda: completed(conn), lambda: completed(easy)),
                "show": (lambda: get_job(conn, some[0]), lambda: get_job(easy, some[1])),
                "stats": (lambda: job_stats(conn), lambda: job_stats(easy)),
            }
            for name, (ours, bare) in asked.items():
                bench.tell(f"reads: {name}")
                rounds = [Pair(milliseconds(ours), milliseconds(bare)) for _ in range(TIMES)]
                yield figure("reads", f"{name}, {bench.rows:,} finished", "ms", rounds, against="100 finished")


def completed(conn: Connection) -> object:
    """List what completed last."""
    return list_jobs(conn, state=JobState.COMPLETED)


def milliseconds(action: Callable[[], object]) -> float:
    """Return how long something takes."""
    began = time.perf_counter()
    action()
    return (time.perf_counter() - began) * 1000
