"""What jobs of each kind do, with no queue around it."""

import asyncio
import multiprocessing
import os
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from ayb_jobs.lab.bench.kinds_isolated import compute

# So many are done first, so that all has started.
WARM = 20


class Turns(NamedTuple):
    """What does the work so many times, and what ends it."""

    work: Callable[[int], object]
    end: Callable[[], object]


def tasks(*, at_once: int, seconds: float = 0.0) -> Turns:
    """Run tasks on an event loop."""
    loop = asyncio.Runner()

    async def all_of_them(count: int) -> None:
        places = asyncio.Semaphore(at_once)

        async def one() -> None:
            async with places:
                await asyncio.sleep(seconds)

        await asyncio.gather(*(one() for _ in range(count)))

    return Turns(lambda count: loop.run(all_of_them(count)), loop.close)


def commands(*, at_once: int) -> Turns:
    """Run a command that does nothing."""
    threads = ThreadPoolExecutor(at_once)

    def one(_: int) -> None:
        subprocess.run(["/bin/true"], input=b"{}\n", capture_output=True, start_new_session=True, check=True)

    return Turns(lambda count: list(threads.map(one, range(count))), threads.shutdown)


def computed() -> Turns:
    """Compute in a pool of processes, one for each processor."""
    pool = multiprocessing.get_context("spawn").Pool(len(os.sched_getaffinity(0)))
    return Turns(lambda count: pool.map(compute, range(count), chunksize=1), pool.terminate)


KINDS: dict[str, Callable[..., Turns]] = {
    "tasks": tasks,
    "commands": commands,
    "computed": computed,
}
