"""uvicorn, with the bounds of this API."""

import logging

import uvicorn
from starlette.types import ASGIApp

from ayb_jobs.http.connection import BoundedConnection
from ayb_jobs.http.guard import MAX_HEADER

MAX_CONNECTIONS = 512


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
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=10,
        timeout_graceful_shutdown=round(stop_s),
    )
    return uvicorn.Server(config)
