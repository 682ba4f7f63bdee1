"""Oban for Python, the open source edition."""

from typing import Any

from common import URL, Count, main, paced, parts, timed, until_input_ends
from oban import Oban, worker
from oban.schema import install

PRESETS = {"defaults": 10, "tuned": 200}
counting: list[Count] = []


@worker(queue="default")
class Noop:
    async def process(self, job: Any) -> None:
        counting[0](job.args.get("t"))


class ObanQueue:
    async def setup(self) -> None:
        pool = await Oban.create_pool(URL)
        await install(pool)
        await pool.close()

    async def bulk(self, count: int) -> None:
        pool = await Oban.create_pool(URL, min_size=1, max_size=1)
        oban = Oban(pool=pool)

        async def send() -> None:
            for numbers in parts(count):
                await oban.enqueue_many(*[Noop.new({"n": number}) for number in numbers])

        await timed(send())
        await pool.close()

    async def single(self, count: int) -> None:
        pool = await Oban.create_pool(URL, min_size=1, max_size=1)
        oban = Oban(pool=pool)

        async def send() -> None:
            for number in range(count):
                await oban.enqueue(Noop.new({"n": number}))

        await timed(send())
        await pool.close()

    async def paced(self, count: int) -> None:
        pool = await Oban.create_pool(URL, min_size=1, max_size=1)
        oban = Oban(pool=pool)
        await paced(count, lambda payload: oban.enqueue(Noop.new(payload)))
        await pool.close()

    async def work(self, count: Count, preset: str) -> None:
        counting.append(count)
        pool = await Oban.create_pool(URL)
        async with Oban(pool=pool, queues={"default": PRESETS[preset]}):
            await until_input_ends()


main(ObanQueue())
