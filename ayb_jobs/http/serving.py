"""uvicorn, with the bounds of this API."""

import asyncio
import logging

import uvicorn
from starlette.types import ASGIApp

from ayb_jobs.http.connection import BoundedConnection
from ayb_jobs.http.guard import MAX_HEADER

# uvicorn looks ten times a second whether it should stop, which an idle daemon would feel.
LOOK_S = 0.5
LOOKS_A_SECOND = 10  # as its counter counts them


class CalmServer(uvicorn.Server):
    """uvicorn's server, looking twice a second whether it should stop."""

    async def main_loop(self) -> None:
        """Serve until told to stop."""
        counter = 0
        while not await self.on_tick(counter):
            await asyncio.sleep(LOOK_S)
            counter = (counter + round(LOOKS_A_SECOND * LOOK_S)) % 864000


def bounded_server(app: ASGIApp, stop_s: float) -> uvicorn.Server:
    """Return a server for one event loop in any thread; it leaves signals and logging alone."""
    config = uvicorn.Config(
        app,
        http=BoundedConnection,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level=logging.CRITICAL,  # errors of requests are reported by the guard, in the daemon's own log
        access_log=False,
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=MAX_HEADER,
        timeout_keep_alive=10,
        timeout_graceful_shutdown=round(stop_s),
    )
    return CalmServer(config)
