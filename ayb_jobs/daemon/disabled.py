"""What runs if `jobs.enabled` is false."""

import threading
from collections.abc import Mapping, Sequence

from structlog.typing import FilteringBoundLogger

from ayb_jobs.config import Config
from ayb_jobs.daemon.build import JOIN_S, open_database
from ayb_jobs.events import DaemonDisabled, DaemonStopped, DaemonStopping, Events, RowsPruned
from ayb_jobs.handlers.packs import prune_webhook_deliveries
from ayb_jobs.runtime.loop import Loop

LEGACY_TURN_S = 3600.0


class DisabledDaemon:
    """What runs if `jobs.enabled` is false: AYB's legacy timer, which prunes webhook deliveries each hour.

    It starts and stops like a `Daemon`. The first hour it deletes nothing, so that a start by mistake does no harm.
    """

    def __init__(self, *, config: Config, url: str, events: Events, first_after_s: float = LEGACY_TURN_S) -> None:
        self.draining = threading.Event()
        self.database = open_database(config, url)
        self._events = events
        self._loop = Loop("legacy pruning", self._prune, events.emit, first_after_s=first_after_s)

    def start(self) -> None:
        """Start pruning."""
        self._loop.start()
        self._events.emit(DaemonDisabled())

    def serve(self, *, concurrency: int, queues: Sequence[str], most: Mapping[str, int]) -> None:
        """Do nothing: no handler runs."""

    def log_to(self, logger: FilteringBoundLogger) -> None:
        """Do nothing: no handler runs."""

    def loops(self) -> Sequence[Loop]:
        """Return the one loop, for health checks."""
        return (self._loop,)

    def stop(self, reason: str = "asked to stop") -> int:
        """Stop pruning, after the batch under way. No handler is ever left running."""
        self.draining.set()
        self._events.emit(DaemonStopping(reason=reason, running=0, timeout_s=JOIN_S))
        self._loop.stop()
        self._loop.join(JOIN_S)
        self.database.close()
        self._events.emit(DaemonStopped(abandoned=0))
        return 0

    def _prune(self) -> float:
        rows = prune_webhook_deliveries(self.database, self.draining.is_set)
        if rows:
            self._events.emit(RowsPruned(table="_ayb_webhook_deliveries", rows=rows))
        return LEGACY_TURN_S
