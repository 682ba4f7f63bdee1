"""Measures async and isolated handlers beside bare loops that do the same: `python benchmarks/executors.py`.

`--url` names an empty database; without it an embedded one is used. The figures are for the machine at hand only.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from ayb_jobs import AsyncJobContext, JobContext, NewJob, Registry, enqueue_many
from ayb_jobs.embedded import EmbeddedPostgres
from ayb_jobs.process.inside import running_daemon
from ayb_jobs.storage.database import connect

# Children look for the registry in this file as a module.
sys.path.insert(0, str(Path(__file__).parent))
registry = Registry()
STEPS = 300_000


def compute(_: int = 0) -> None:
    """Take a tenth of a second or so of one processor."""
    total = 0
    for number in range(STEPS):
        total += number * number


@registry.handler("async")
async def wait(_: AsyncJobContext) -> None:
    """Wait for a second."""
    await asyncio.sleep(1)


@registry.handler("compute", isolation="process")
def computing(_: JobContext) -> None:
    """Compute."""
    compute()


@registry.handler("empty", isolation="process")
def empty(_: JobContext) -> None:
    """Do nothing."""


def drained(url: str, job_type: str, jobs: int, **settings: int) -> float:
    """Return the seconds from the first job's start to the last one's end, by the database's clock."""
    with closing(connect(url)) as conn:
        with running_daemon(registry, url=url, poll_interval_ms=100, **settings):
            enqueue_many(conn, [NewJob(type=job_type) for _ in range(jobs)])
            done = "SELECT count(*) FROM _ayb_jobs WHERE type = %s AND state = 'completed'"
            while (conn.execute(done, (job_type,)).fetchone() or (0,))[0] < jobs:
                time.sleep(0.05)
        took = "SELECT extract(epoch FROM max(ended_at) - min(started_at)) FROM _ayb_job_executions WHERE job_type = %s"
        return float((conn.execute(took, (job_type,)).fetchone() or (0,))[0])


def bare_async(jobs: int, at_once: int) -> float:
    """Return the seconds that a bare event loop takes."""

    async def all_of_them() -> None:
        places = asyncio.Semaphore(at_once)

        async def one() -> None:
            async with places:
                await asyncio.sleep(1)

        await asyncio.gather(*(one() for _ in range(jobs)))

    return timed(lambda: asyncio.run(all_of_them()))


def bare_pool(jobs: int, processes: int) -> float:
    """Return the seconds that a pool of `multiprocessing` takes, once it has started."""
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        pool.map(abs, range(processes))
        return timed(lambda: pool.map(compute, range(jobs), chunksize=1))


def bare_empty(jobs: int, processes: int) -> float:
    """Return the seconds for empty calls, one at a time on each process."""
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        pool.map(abs, range(processes))
        return timed(lambda: pool.map(abs, range(jobs), chunksize=1))


def timed(action: Callable[[], object]) -> float:
    """Return the seconds that something takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def measure(url: str, scale: float) -> None:
    """Print one line of JSON for each figure."""
    processes = len(os.sched_getaffinity(0))
    at_once, waiting = int(5000 * scale), int(25_000 * scale)
    computing_jobs, empty_jobs = int(400 * scale), int(20_000 * scale)
    rows = (
        (
            "async handlers of 1 s",
            drained(url, "async", waiting, async_concurrency=at_once),
            bare_async(waiting, at_once),
        ),
        ("computing handlers", drained(url, "compute", computing_jobs), bare_pool(computing_jobs, processes)),
        ("empty isolated handlers", drained(url, "empty", empty_jobs), bare_empty(empty_jobs, processes)),
    )
    for name, ours, bare in rows:
        print(
            json.dumps(
                {"what": name, "seconds": round(ours, 2), "bare": round(bare, 2), "share": round(bare / ours, 2)}
            )
        )


def main() -> None:
    """Measure at full size, or at `--scale` of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="")
    parser.add_argument("--scale", type=float, default=1.0)
    asked = parser.parse_args()
    if asked.url:
        measure(asked.url, asked.scale)
        return
    with EmbeddedPostgres.throwaway() as server:
        measure(server.url(), asked.scale)


if __name__ == "__main__":
    import executors  # by its name as a module, so that children find the handlers

    executors.main()
