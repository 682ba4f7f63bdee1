"""What every worker script in Python shares: its commands, and the lines that it tells.

    script.py setup                make the queue's tables
    script.py bulk COUNT           enqueue by the queue's bulk call, 1,000 at a time
    script.py single COUNT         enqueue one by one on one connection
    script.py paced COUNT          enqueue every 20 ms, each payload telling when it was sent
    script.py work COUNT PRESET    work until standard input ends; tell when COUNT handlers have begun

With LIMIT no more than so many jobs may run at once, over all workers, by the queue's own means; `bulk` then enqueues
such jobs, and a handler lasts a few milliseconds and tells when it began and ended.

The database is in DATABASE_URL. A line is JSON: an event and its value. Times are seconds since the epoch, since not
every language can read the monotonic clock that the others see.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

URL = os.environ["DATABASE_URL"]
IN_BULK = 1000
PACE_S = 0.02
LIMIT = int(os.environ.get("LIMIT", "0"))
LASTS_S = 0.005


def tell(event: str, value: Any) -> None:
    """Write one line for the driver."""
    sys.stdout.write(json.dumps([event, value]) + "\n")
    sys.stdout.flush()


class Count:
    """Counts handlers as they begin, and the latency of those whose payload tells when it was sent."""

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.begun = 0
        self.latencies_ms: list[float] = []

    def __call__(self, sent: float | None = None) -> None:
        now = time.time()
        if sent is not None:
            self.latencies_ms.append((now - sent) * 1000)
        self.begun += 1
        if self.begun == 1:
            tell("began", now)
        if self.begun % 1000 == 0:
            tell("count", [self.begun, now])
        if self.begun == self.wanted:
            tell("latencies", self.latencies_ms)
            tell("done", now)


async def last() -> None:
    """Take a handler's time if there is a limit."""
    if LIMIT:
        began = time.time()
        await asyncio.sleep(LASTS_S)
        tell("ran", [began, time.time()])


def parts(count: int) -> Iterator[range]:
    """Split a count into what one bulk call takes."""
    for first in range(0, count, IN_BULK):
        yield range(first, min(first + IN_BULK, count))


async def timed(work: Awaitable[Any]) -> None:
    """Tell how long enqueueing takes."""
    began = time.perf_counter()
    await work
    tell("took", time.perf_counter() - began)


async def paced(count: int, send: Callable[[dict[str, Any]], Awaitable[Any]]) -> None:
    """Send payloads at a steady pace."""
    began = time.perf_counter()
    for number in range(count):
        await asyncio.sleep(max(0.0, began + number * PACE_S - time.perf_counter()))
        await send({"n": number, "t": time.time()})


async def until_input_ends() -> None:
    """Wait until the driver wants no more."""
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def end_with_input() -> None:
    """End the process once the driver wants no more, for workers that never return by themselves."""

    async def watch() -> None:
        await until_input_ends()
        os._exit(0)

    watching.append(asyncio.get_running_loop().create_task(watch()))


watching: list[asyncio.Task[None]] = []


def main(queue: Any, run: Callable[[Any], Any] = asyncio.run) -> None:
    """Run one command of a queue: an object with a coroutine method for each."""
    command, *arguments = sys.argv[1:]
    match command:
        case "setup":
            run(queue.setup())
        case "work":
            run(queue.work(Count(int(arguments[0])), arguments[1]))
        case _:
            run(getattr(queue, command)(int(arguments[0])))
