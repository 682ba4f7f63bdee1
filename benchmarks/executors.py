"""Measures async and isolated handlers beside bare loops that do the same: `python benchmarks/executors.py`.

`--url` names an empty database; without it an embedded one is used. The figures are for the machine at hand only.
"""

import argparse
import asyncio
import importlib
import json
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from multiprocessing.connection import Connection
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


def answer(calls: Connection) -> None:
    """Answer each call, in a process of its own."""
    while (call := calls.recv()) is not None:
        calls.send(abs(call))


def bare_empty(jobs: int, processes: int) -> float:
    """Return the seconds for empty calls, one at a time to each process over a pipe of its own.

    So a process that dies or hangs harms no other call, as it must be here. A pool of `multiprocessing` has one pipe
    for all, is several times as fast, and is broken by a worker that is killed.
    """
    spawn = multiprocessing.get_context("spawn")
    pipes = [spawn.Pipe() for _ in range(processes)]
    workers = [spawn.Process(target=answer, args=(theirs,), daemon=True) for _, theirs in pipes]
    left = iter(range(jobs))
    lock = threading.Lock()

    def call(ours: Connection) -> None:
        while True:
            with lock:
                number = next(left, None)
            if number is None:
                return
            ours.send(number)
            ours.recv()

    for worker, (ours, _) in zip(workers, pipes, strict=True):
        worker.start()
        ours.send(0)
        ours.recv()
    with ThreadPoolExecutor(processes) as threads:
        took = timed(lambda: list(threads.map(call, [ours for ours, _ in pipes])))
    for worker, (ours, _) in zip(workers, pipes, strict=True):
        ours.send(None)
        worker.join()
    return took


def bare_pebble(jobs: int, processes: int) -> float | None:
    """Return the seconds for empty calls in a pool of Pebble, which kills a worker at a call's timeout.

    None if Pebble is not installed; no part of ayb-jobs needs it.
    """
    try:
        pebble = importlib.import_module("pebble")
    except ImportError:
        return None
    with pebble.ProcessPool(processes, context=multiprocessing.get_context("spawn")) as pool:
        for future in [pool.schedule(abs, args=[0]) for _ in range(processes)]:
            future.result()

        def all_of_them() -> None:
            for future in [pool.schedule(abs, args=[number], timeout=60) for number in range(jobs)]:
                future.result()

        return timed(all_of_them)


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
    empty_s = drained(url, "empty", empty_jobs)
    rows = (
        (
            "async handlers of 1 s",
            drained(url, "async", waiting, async_concurrency=at_once),
            bare_async(waiting, at_once),
        ),
        ("computing handlers", drained(url, "compute", computing_jobs), bare_pool(computing_jobs, processes)),
        ("empty isolated handlers, beside calls over a pipe", empty_s, bare_empty(empty_jobs, processes)),
        ("empty isolated handlers, beside Pebble", empty_s, bare_pebble(empty_jobs, processes)),
    )
    for name, ours, bare in rows:
        if bare is None:
            continue
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
