"""A daemon inside one's own process: beside a web application, in a script, in a test."""

import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import structlog
from structlog.typing import FilteringBoundLogger

from ayb_jobs.config import Config, Handlers, Jobs
from ayb_jobs.daemon.daemon import Daemon
from ayb_jobs.daemon.identity import new_worker_id
from ayb_jobs.events import Events
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.logs.subscriber import LogSubscriber
from ayb_jobs.process.start_up import prepare
from ayb_jobs.redact import Redactor
from ayb_jobs.runtime.loop import Loop
from ayb_jobs.storage.database import connect_for_ourselves

SUMMARY_S = 1.0


@contextmanager
def running_daemon(registry: Registry, *, url: str, config: Config | None = None, **jobs: Any) -> Iterator[Daemon]:
    """Run a daemon for the time of the block: bring the database's schema up to date, start, and stop at the end.

    `jobs` are settings of `[jobs]`, such as `worker_concurrency=8`, with the daemon's defaults for the others, and
    without built-in jobs. `config` gives all settings instead. The daemon serves no HTTP and handles no signals. Its
    log goes to Python's logger `ayb_jobs`. At the end of the block it waits up to `shutdown_timeout_s` for running
    handlers.

    Raises `DatabaseError` if the database cannot be reached, and pydantic's `ValidationError` for a bad setting.
    """
    settings = config or Config(jobs=Jobs(enabled=True, **jobs), handlers=Handlers(packs=[]))
    logger = python_logger(Redactor(settings.secrets()))
    events, lines = Events(), LogSubscriber(logger)
    events.subscribe(lines)
    with closing(connect_for_ourselves(settings.database.direct_url or url, name="ayb-jobs-start")) as conn:
        prepare(conn, settings, registry, events)

    def summarize() -> float:
        lines.summarize()
        return SUMMARY_S

    summary = Loop("log summary", summarize, events.emit)
    daemon = Daemon(
        config=settings, url=url, registry=registry, events=events, logger=logger, worker_id=new_worker_id()
    )
    summary.start()
    try:
        with daemon:
            yield daemon
    finally:
        summary.stop()
        summary.join()


def python_logger(redact: Redactor) -> FilteringBoundLogger:
    """Return a logger that writes to Python's logger `ayb_jobs`, one line of `key=value` words for each event."""

    def render(_: object, __: str, fields: structlog.typing.EventDict) -> str:
        event = fields.pop("event", "")
        return redact(" ".join([str(event), *(f"{key}={value!r}" for key, value in fields.items())]))

    logger: FilteringBoundLogger = structlog.wrap_logger(
        logging.getLogger("ayb_jobs"),
        processors=[structlog.processors.format_exc_info, render],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        context_class=dict,
    )
    return logger
