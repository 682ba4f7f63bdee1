"""Who a daemon is: the id of its start, and what it tells its peers about itself."""

import os
import secrets
import socket

from ayb_jobs import __version__
from ayb_jobs.config import Config
from ayb_jobs.daemon.executing import isolated_slots, types_by_executor
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.model.daemons import DaemonRecord


def new_worker_id() -> str:
    """Return an id that no other start of a daemon has; host and process id are in it for people."""
    return f"{socket.gethostname()[:60]}:{os.getpid()}:{secrets.token_hex(6)}"


def describe(config: Config, registry: Registry, worker_id: str) -> DaemonRecord:
    """Return what this daemon tells its peers about itself."""
    types = types_by_executor(registry)
    return DaemonRecord(
        id=worker_id,
        host=socket.gethostname(),
        pid=os.getpid(),
        version=__version__,
        concurrency=config.jobs.worker_concurrency,
        queues=config.jobs.queues,
        types=registry.names(),
        isolated_types=types["process"],
        isolated_slots=isolated_slots(config.jobs) if types["process"] else 0,
        async_types=types["async"],
        async_slots=config.jobs.async_concurrency if types["async"] else 0,
        queue_slots=most_of(config),
        has_scheduler=config.jobs.scheduler_enabled,
    )


def most_of(config: Config) -> dict[str, int]:
    """Return how many slots each of those queues may fill that may not fill all."""
    return {name: queue.concurrency for name, queue in config.queues.items()}
