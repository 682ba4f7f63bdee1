"""Awa: an engine in Rust under handlers in Python."""

from dataclasses import dataclass
from typing import Any

import awa
from common import URL, Count, main, paced, parts, timed, until_input_ends

QUEUE = "bench"
PRESETS = {"defaults": 10, "tuned": 512}


@dataclass
class Noop:
    n: int
    t: float | None = None


class Awa:
    async def setup(self) -> None:
        client = awa.AsyncClient(URL)
        await client.migrate()

        # The first worker on a new schema switches its queue storage on.
        @client.task(Noop, queue=QUEUE)
        async def noop(_job: Any) -> None:
            pass

        await client.start([(QUEUE, 1)])
        await client.shutdown()
        await client.close()

    async def bulk(self, count: int) -> None:
        client = awa.AsyncClient(URL)

        async def send() -> None:
            for numbers in parts(count):
                await client.enqueue_many_copy([Noop(number) for number in numbers], queue=QUEUE)

        await timed(send())
        await client.close()

    async def single(self, count: int) -> None:
        client = awa.AsyncClient(URL, max_connections=1)

        async def send() -> None:
            for number in range(count):
                await client.insert(Noop(number), queue=QUEUE)

        await timed(send())
        await client.close()

    async def paced(self, count: int) -> None:
        client = awa.AsyncClient(URL, max_connections=1)
        await paced(count, lambda payload: client.insert(Noop(**payload), queue=QUEUE))
        await client.close()

    async def work(self, count: Count, preset: str) -> None:
        client = awa.AsyncClient(URL, max_connections=20)

        @client.task(Noop, queue=QUEUE)
        async def noop(job: Any) -> None:
            count(job.args.t)

        await client.start([(QUEUE, PRESETS[preset])])
        await until_input_ends()
        await client.shutdown()


main(Awa())
