"""PgQueuer, on asyncpg and uvloop, as its own benchmark tool runs it."""

import json
from typing import Any

import asyncpg
import uvloop
from common import LIMIT, URL, Count, end_with_input, last, main, paced, parts, timed
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.queries import Queries

PRESETS: dict[str, dict[str, Any]] = {"defaults": {}, "tuned": {"batch_size": 200}}


async def queries() -> Queries:
    return Queries(AsyncpgDriver(await asyncpg.connect(URL)))


class PgQueuerQueue:
    async def setup(self) -> None:
        queue = await queries()
        await queue.install()
        await queue.optimize_autovacuum()

    async def bulk(self, count: int) -> None:
        queue = await queries()

        async def send() -> None:
            for numbers in parts(count):
                payloads = [json.dumps({"n": number}).encode() for number in numbers]
                await queue.enqueue(["noop"] * len(payloads), payloads, [0] * len(payloads))

        await timed(send())

    async def single(self, count: int) -> None:
        queue = await queries()

        async def send() -> None:
            for number in range(count):
                await queue.enqueue("noop", json.dumps({"n": number}).encode(), 0)

        await timed(send())

    async def paced(self, count: int) -> None:
        queue = await queries()
        await paced(count, lambda payload: queue.enqueue("noop", json.dumps(payload).encode(), 0))

    async def work(self, count: Count, preset: str) -> None:
        end_with_input()
        worker = PgQueuer(AsyncpgDriver(await asyncpg.connect(URL)))

        @worker.entrypoint("noop", concurrency_limit=LIMIT)
        async def noop(job: Any) -> None:
            count(json.loads(job.payload).get("t"))
            await last()

        await worker.run(**PRESETS[preset])


main(PgQueuerQueue(), uvloop.run)
