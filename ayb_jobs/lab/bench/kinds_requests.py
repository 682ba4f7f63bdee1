"""Requests with no queue around them, and what answers them; they need the extra `http`."""

import asyncio
import threading

import aiohttp
from aiohttp import web

from ayb_jobs.lab.bench.bare import Stop, Tell
from ayb_jobs.lab.bench.kinds_bare import Turns

BODY = b'{"type": "request", "data": {}}'


def requests(*, at_once: int, address: str) -> Turns:
    """Post to an address, over connections that are kept."""
    loop = asyncio.Runner()

    async def opened() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))

    session = loop.run(opened())

    async def all_of_them(count: int) -> None:
        left = iter(range(count))

        async def some() -> None:
            for _ in left:
                async with session.post(address, data=BODY) as response:
                    await response.read()

        await asyncio.gather(*(some() for _ in range(at_once)))

    def end() -> None:
        loop.run(session.close())
        loop.close()

    return Turns(lambda count: loop.run(all_of_them(count)), end)


def receiving(tell: Tell) -> Stop:
    """Answer every request at once; tell the port."""

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=204)

    async def serve() -> None:
        app = web.Application()
        app.router.add_post("/", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        tell("port", runner.addresses[0][1])
        await asyncio.Event().wait()

    threading.Thread(target=lambda: asyncio.run(serve()), daemon=True).start()
    return lambda: None
