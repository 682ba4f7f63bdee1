"""Puts the log together, and takes it apart."""

import logging
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TextIO

import structlog
from structlog.typing import FilteringBoundLogger

from ayb_jobs.config import Log
from ayb_jobs.frozen import frozen
from ayb_jobs.logs.rendering import Renderer
from ayb_jobs.logs.sink import Sink
from ayb_jobs.logs.subscriber import LogSubscriber
from ayb_jobs.redact import Redactor

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
# Libraries whose remarks below a warning say nothing to whoever runs the daemon.
# The pool warns at each attempt to connect; whoever waits for a connection is told once, with the reason.
SILENCED = "psycopg.pool"
TALKATIVE = ("uvicorn", "asyncio", "psycopg", "opentelemetry", "httpx")


@frozen
class Logs:
    """A running log: `logger` for handlers, `subscriber` for `Events.subscribe`; `for_people` if it is no JSON."""

    logger: FilteringBoundLogger
    subscriber: LogSubscriber
    sink: Sink
    library: "LibraryHandler"
    for_people: bool
    leveled: Callable[[str], FilteringBoundLogger]

    def set_level(self, level: str) -> FilteringBoundLogger:
        """Write lines of this level and above from now on. Return the logger for handlers that begin from now on."""
        logger = self.leveled(level)
        self.subscriber.write_to(logger)
        self.library.write_to(logger, LEVELS[level])
        return logger

    def close(self, timeout_s: float = 2.0) -> bool:
        """Write what waits, for at most `timeout_s` seconds, and stop; tell whether all was written. May come twice."""
        self.library.remove()
        return self.sink.close(timeout_s)


def configure_logging(
    settings: Log, *, worker: str = "", secrets: Iterable[str] = (), stream: TextIO | None = None
) -> Logs:
    """Start to log to `stream` (stderr where none is given), and have Python's own logging go the same way.

    `worker` stands on each line; `secrets` are never written. Whoever calls this calls `close` at the end.
    """
    stream = stream or sys.stderr
    terminal = stream is not None and _is_terminal(stream)
    console = settings.format == "console" or (settings.format == "auto" and terminal)
    color = settings.color == "always" or (settings.color == "auto" and terminal)
    sink = Sink(_descriptor(stream))
    renderer = Renderer(Redactor(secrets), console=console, color=color)

    def leveled(level: str) -> FilteringBoundLogger:
        logger: FilteringBoundLogger = structlog.wrap_logger(
            SinkLogger(sink),
            processors=[renderer],
            wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
            context_class=dict,
        ).bind(**({"worker": worker} if worker else {}))
        return logger

    logger = leveled(settings.level)
    subscriber = LogSubscriber(logger)
    sink.on_tick = subscriber.summarize
    sink.on_dropped = subscriber.dropped
    sink.start()
    library = LibraryHandler(logger)
    library.install(LEVELS[settings.level])
    return Logs(logger=logger, subscriber=subscriber, sink=sink, library=library, for_people=console, leveled=leveled)


def library_levels(level: int) -> dict[str, int]:
    """Return the least level of each of Python's loggers whose level we set."""
    return {"": level} | dict.fromkeys(TALKATIVE, max(level, logging.WARNING)) | {SILENCED: logging.ERROR}


class SinkLogger:
    """What structlog hands finished lines to."""

    def __init__(self, sink: Sink) -> None:
        self.debug = self.info = self.warning = self.error = self.critical = sink.put


class LibraryHandler(logging.Handler):
    """Sends what libraries and handlers write to Python's logging, warnings included, the way of all other lines."""

    def __init__(self, logger: FilteringBoundLogger) -> None:
        super().__init__()
        self._logger = logger
        self._levels_before: dict[str, int] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record as `library.message`."""
        with suppress(Exception):
            level = min(max(record.levelno, logging.DEBUG), logging.CRITICAL) // 10 * 10
            self._logger.log(
                level,
                "library.message",
                logger=record.name,
                message=record.getMessage().rstrip(),
                **({"exc_info": record.exc_info} if record.exc_info else {}),
            )

    def install(self, level: int) -> None:
        """Take over from whatever Python's root logger did."""
        self._levels_before = {name: logging.getLogger(name).level for name in library_levels(level)}
        self.write_to(self._logger, level)
        logging.getLogger().addHandler(self)
        logging.captureWarnings(True)

    def write_to(self, logger: FilteringBoundLogger, level: int) -> None:
        """Write to another logger, lines of this level and above."""
        self._logger = logger
        for name, least in library_levels(level).items():
            logging.getLogger(name).setLevel(least)

    def remove(self) -> None:
        """Leave Python's logging as it was found."""
        logging.captureWarnings(False)
        logging.getLogger().removeHandler(self)
        for name, level in self._levels_before.items():
            logging.getLogger(name).setLevel(level)


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def _descriptor(stream: TextIO | None) -> int | None:
    """Return a stream's file descriptor; None where it is closed or has none."""
    try:
        return None if stream is None else stream.fileno()
    except (OSError, ValueError):
        return None
