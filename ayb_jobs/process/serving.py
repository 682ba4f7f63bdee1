"""The API beside the daemon: listening at once, answering once the daemon has started or soon."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from importlib.util import find_spec
from typing import Any, NamedTuple

from ayb_jobs.checks.loops import LoopAge
from ayb_jobs.config import Config
from ayb_jobs.daemon.daemon import Daemon
from ayb_jobs.daemon.disabled import DisabledDaemon
from ayb_jobs.events import ApiFailed, ApiStarted, ApiUnavailable, Events
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.http import ApiServer, Services, app_factory
from ayb_jobs.metrics import Metrics
from ayb_jobs.process.progress import loop_ages
from ayb_jobs.storage.connections import Database

# Of its own, so that handlers that hold all theirs never keep an operator out, nor many dashboards a handler.
HTTP_CONNECTIONS = 4
# HTTP lets the first job come first for at most so long.
FIRST_JOB_S = 0.5
# An application has some of them for itself, which is not the extra `api`.
API_LIBRARIES = ("fastapi", "fastapi_offline", "prometheus_client", "graphql", "jinja2", "uvicorn")


class Serving(NamedTuple):
    """What the process has beside its daemon: the dashboard's address, if there is one, and the age of each loop."""

    dashboard: str | None
    loops: Callable[[], Sequence[LoopAge]]


@contextmanager
def served(
    daemon: Daemon | DisabledDaemon,
    *,
    config: Config,
    registry: Registry,
    events: Events,
    metrics: Metrics,
    started: threading.Event,
) -> Iterator[Serving]:
    """Serve the API during the block if `[api]` says so, and give what comes of it.

    Without the extra `api`, it says what to install.
    """
    if not config.api.enabled or not has_api():
        if config.api.enabled:
            events.emit(ApiUnavailable())
        yield Serving(None, lambda: loop_ages(daemon.loops()))
        return
    stopping = threading.Event()
    timeouts = daemon.database.timeouts
    database = Database(
        daemon.database.url,
        name="ayb-jobs-http",
        work_connections=HTTP_CONNECTIONS,
        timeouts=timeouts,
        users_sql=False,
    )
    services = Services(
        database=database,
        config=config,
        registry=registry,
        events=events,
        metrics=metrics,
        loops=lambda: loop_ages([*(daemon.loops() if started.is_set() else ()), server]),
        slots=daemon.slots if isinstance(daemon, Daemon) else dict,
        served=daemon.queues if isinstance(daemon, Daemon) else None,
        has_started=started.is_set,
        draining=daemon.draining.is_set,
        stopping=stopping,
    )
    server = ApiServer(
        after(started, app_factory(services)),
        config.api.host,
        config.api.port,
        stopping=stopping,
        on_failure=lambda error: events.emit(ApiFailed(error=error)),
    )
    with closing(database):
        server.start()
        events.emit(ApiStarted(url=server.url, authenticated=config.api.wants_token))
        try:
            yield Serving(f"{server.url}/" if config.dashboard.enabled else None, services.loops)
        finally:
            server.stop()


def has_api() -> bool:
    """Tell whether the extra `api` is installed."""
    return all(find_spec(library) is not None for library in API_LIBRARIES)


def after(started: threading.Event, build: Callable[[], Any]) -> Callable[[], Any]:
    """Have the application built once the daemon has started: building takes the interpreter from the first job.

    A daemon that waits for its database starts late; HTTP then tells so.
    """

    def build_later() -> Any:
        started.wait(FIRST_JOB_S)
        return build()

    return build_later
