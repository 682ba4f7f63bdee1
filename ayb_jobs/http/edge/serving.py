"""uvicorn, with the bounds of this API."""

import asyncio
import errno
import logging
from contextlib import suppress
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from ayb_jobs.http.edge.connection import BoundedConnection
from ayb_jobs.http.edge.guard import MAX_HEADER

DATE_S = 1.0
TELL_AGAIN_S = 60.0
LOGGER = logging.getLogger(__name__)
# What the system says that has no descriptor or no memory for one more connection.
NOTHING_FREE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class CalmServer(uvicorn.Server):
    """uvicorn's server, which is told to stop: by itself it would look ten times a second."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._told = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tell_again = 0.0

    def stop(self) -> None:
        """Have it stop, at once, from any thread and whenever: before it serves as well as after."""
        self.should_exit = True
        if self._loop is not None:
            with suppress(RuntimeError):  # its loop has ended
                self._loop.call_soon_threadsafe(self._told.set)

    async def main_loop(self) -> None:
        """Serve until told to stop; a turn brings the date that answers bear up to date."""
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(self._tell)
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._told.wait(), DATE_S)

    def _tell(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Tell now and then that no connection can be accepted: asyncio tries hundreds of times a second."""
        error = context.get("exception")
        if self.should_exit and isinstance(error, OSError | ValueError):
            return  # asyncio tries once more to accept, on a socket that is closed
        if not isinstance(error, OSError) or error.errno not in NOTHING_FREE:
            loop.default_exception_handler(context)
        elif loop.time() >= self._tell_again:
            self._tell_again = loop.time() + TELL_AGAIN_S
            LOGGER.warning("no further connection can be accepted: %s", error.strerror)


def bounded_server(app: ASGIApp, stop_s: float) -> CalmServer:
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
