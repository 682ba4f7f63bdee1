"""What the API stands on: everything that a route may use, in one frozen value."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ayb_jobs.checks.loops import LoopAge
from ayb_jobs.config import Api, Config
from ayb_jobs.events import Events
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.metrics import Metrics
from ayb_jobs.model.bounds import NO_BOUNDS
from ayb_jobs.operations.defaults import Defaults
from ayb_jobs.storage.connections import Database


def no_loops() -> Sequence[LoopAge]:
    """Return the loops of a daemon that has none."""
    return ()


def no_slots() -> Mapping[str, int]:
    """Return the slots of a daemon that has none."""
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What the daemon lends its API.

    `loops` is asked at each health check, and must not touch the database. `slots` counts the handler slots that are
    busy, idle and stuck. `served` tells the queues that the daemon serves at the moment. `has_started` tells that its
    loops turn, `draining` that it is about to stop, so that it is no longer ready. `stopping` ends the streams that are
    open.
    """

    database: Database
    config: Config
    registry: Registry
    events: Events
    metrics: Metrics
    loops: Callable[[], Sequence[LoopAge]] = no_loops
    slots: Callable[[], Mapping[str, int]] = no_slots
    served: Callable[[], Sequence[str]] | None = None
    has_started: Callable[[], bool] = lambda: True
    draining: Callable[[], bool] = lambda: False
    stopping: threading.Event = field(default_factory=threading.Event)
    read_timeout_s: float = 5.0
    write_timeout_s: float = 15.0

    @property
    def api(self) -> Api:
        """The settings of `[api]`."""
        return self.config.api

    @property
    def queues(self) -> list[str]:
        """The queues that are served; those of the settings if no daemon tells."""
        return list(self.config.jobs.queues if self.served is None else self.served())

    @property
    def enabled(self) -> bool:
        """Whether jobs are enabled; where they are not, every jobs and schedules call answers 503."""
        return self.config.jobs.enabled

    def defaults(self, job_type: str) -> Defaults:
        """Return what a job of a type is given if its enqueuer says nothing, and what it may hold."""
        known = self.registry.get(job_type)
        attempts = known.max_attempts if known else None
        return Defaults(
            payload=dict(known.payload) if known else {},
            max_attempts=attempts or self.config.jobs.max_retries_default,
            bounds=known.bounds if known else NO_BOUNDS,
        )
