"""A daemon inside the test's own process, and what it reports."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import structlog

from ayb_jobs.config import Api, Config, Jobs, Retention
from ayb_jobs.config import Database as DatabaseSettings
from ayb_jobs.config.tables import QueueSettings
from ayb_jobs.daemon.daemon import Daemon
from ayb_jobs.daemon.identity import new_worker_id
from ayb_jobs.events import Events
from ayb_jobs.handlers.registry import Registry

T = TypeVar("T")


class Recorder:
    """Keeps every event."""

    def __init__(self) -> None:
        self.events: list[object] = []

    def __call__(self, event: object) -> None:
        self.events.append(event)

    def of(self, kind: type[T]) -> list[T]:
        """Return the events of one kind, oldest first."""
        return [event for event in self.events if isinstance(event, kind)]


class Running:
    """A running daemon, and its events."""

    def __init__(self, daemon: Daemon, recorder: Recorder) -> None:
        self.daemon = daemon
        self.recorder = recorder


@contextmanager
def running(
    url: str,
    registry: Registry,
    *,
    retention: Retention | None = None,
    api: Api | None = None,
    notify: bool = True,
    slots: Mapping[str, int] | None = None,
    **jobs: Any,
) -> Iterator[Running]:
    """Run a daemon on `url` for the time of the block; `jobs` are settings of `[jobs]`.

    `slots` say how many a queue may fill.
    """
    settings = {"enabled": True, "scheduler_enabled": False, "shutdown_timeout_s": 5.0, **jobs}
    recorder = Recorder()
    events = Events()
    events.subscribe(recorder)
    daemon = Daemon(
        config=Config(
            jobs=Jobs(**settings),
            database=DatabaseSettings(notify=notify),
            retention=retention or Retention(),
            api=api or Api(),
            queues={name: QueueSettings(concurrency=most) for name, most in (slots or {}).items()},
        ),
        url=url,
        registry=registry,
        events=events,
        logger=silent_logger(),
        worker_id=new_worker_id(),
    )
    daemon.start()
    try:
        yield Running(daemon, recorder)
    finally:
        if not daemon.draining.is_set():
            daemon.stop()
        daemon._parts.lifeline.close()
    assert events.listener_failures == 0


def silent_logger() -> Any:
    """Return a logger whose lines go nowhere."""
    return structlog.wrap_logger(None, processors=[lambda *_: _drop()], wrapper_class=structlog.BoundLogger)


def _drop() -> dict[str, Any]:
    raise structlog.DropEvent
