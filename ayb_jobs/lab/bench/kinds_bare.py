"""What jobs of each kind do, with no queue around it. Each begins at once, tells when it began and when all is done."""

import asyncio
import multiprocessing
import os
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ayb_jobs.lab.bench.kinds_isolated import compute

Tell = Callable[[str, Any], None]
Stop = Callable[[], object]
Work = Callable[[int], object]

# So many are done first, so that all has started.
WARM = 20


def beginning(tell: Tell, work: Work, jobs: int, end: Callable[[], object] = lambda: None) -> Stop:
    """Do the work in a thread, and tell; return what waits for that."""

    def run() -> None:
        work(WARM)
        tell("began", time.monotonic())
        work(jobs)
        tell("settled", (time.monotonic(), jobs))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def stop() -> None:
        thread.join()
        end()

    return stop


def tasks(tell: Tell, *, jobs: int, at_once: int, seconds: float = 0.0) -> Stop:
    """Run tasks on an event loop."""

    async def all_of_them(count: int) -> None:
        places = asyncio.Semaphore(at_once)

        async def one() -> None:
            async with places:
                await asyncio.sleep(seconds)

        await asyncio.gather(*(one() for _ in range(count)))

    return beginning(tell, lambda count: asyncio.run(all_of_them(count)), jobs)


def commands(tell: Tell, *, jobs: int, at_once: int) -> Stop:
    """Run a command that does nothing."""

    def one(_: int) -> None:
        subprocess.run(["/bin/true"], input=b"{}\n", capture_output=True, start_new_session=True, check=True)

    def work(count: int) -> None:
        with ThreadPoolExecutor(at_once) as threads:
            list(threads.map(one, range(count)))

    return beginning(tell, work, jobs)


def computed(tell: Tell, *, jobs: int) -> Stop:
    """Compute in a pool of processes, one for each processor."""
    pool = multiprocessing.get_context("spawn").Pool(len(os.sched_getaffinity(0)))
    return beginning(tell, lambda count: pool.map(compute, range(count), chunksize=1), jobs, pool.terminate)


KINDS: dict[str, Callable[..., Stop]] = {
    "tasks": tasks,
    "commands": commands,
    "computed": computed,
}
