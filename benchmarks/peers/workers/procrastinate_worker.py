"""Procrastinate, on its asynchronous psycopg connector. Its limit is a lock: of the jobs that share one, one runs."""

from typing import Any

from common import LIMIT, URL, Count, end_with_input, last, main, paced, parts, timed
from procrastinate import App, PsycopgConnector

PRESETS: dict[str, dict[str, Any]] = {"defaults": {}, "tuned": {"concurrency": 30}}


def app_of(count: Any = None, *, connections: int = 1) -> tuple[App, Any]:
    app = App(connector=PsycopgConnector(conninfo=URL, min_size=1, max_size=connections))

    @app.task(name="noop", queue="default")
    async def noop(n: int, t: float | None = None) -> None:  # noqa: ARG001 - the payload
        count(t)
        await last()

    return app, noop


class Procrastinate:
    async def setup(self) -> None:
        app, _ = app_of()
        async with app.open_async():
            await app.schema_manager.apply_schema_async()

    async def bulk(self, count: int) -> None:
        app, noop = app_of()
        async with app.open_async():

            async def send() -> None:
                for numbers in parts(count):
                    await noop.configure(lock="noop" if LIMIT else None).batch_defer_async(
                        *({"n": number} for number in numbers)
                    )

            await timed(send())

    async def single(self, count: int) -> None:
        app, noop = app_of()
        async with app.open_async():

            async def send() -> None:
                for number in range(count):
                    await noop.defer_async(n=number)

            await timed(send())

    async def paced(self, count: int) -> None:
        app, noop = app_of()
        async with app.open_async():
            await paced(count, lambda payload: noop.defer_async(**payload))

    async def work(self, count: Count, preset: str) -> None:
        end_with_input()
        settings = PRESETS[preset]
        app, _ = app_of(count, connections=max(4, settings.get("concurrency", 1)))
        async with app.open_async():
            await app.run_worker_async(**settings)


main(Procrastinate())
