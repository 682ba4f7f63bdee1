"""What all contexts of a daemon share."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from structlog.typing import FilteringBoundLogger

from ayb_jobs.events import Emit
from ayb_jobs.handlers.commands.spawner import Spawner
from ayb_jobs.model.lifecycle import Settlement
from ayb_jobs.redact import redact
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.queue.settling import Settled


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextServices:
    """What all contexts of a daemon share. A lease is extended by `lease_s` seconds at a time.

    A stopping daemon waits for handlers as long as `shutdown_s`. `spawner` starts commands, and `mask` hides secrets.
    `clients` keep connections to addresses outside, for use on the event loop, which closes them at its end.
    `settled` is told of each attempt that its handler's own transaction settled, for `worker_id`, and what was written.
    The job stays for the pruner, whatever the retention: the transaction must not fail because a job cannot be removed.
    """

    database: Database
    lease_s: float
    logger: FilteringBoundLogger
    worker_id: str = ""
    settled: Callable[[Settlement, Settled], None] = lambda *_: None
    shutdown_s: float = 30.0
    spawner: Spawner = field(default_factory=Spawner)
    clients: dict[str, Any] = field(default_factory=dict)
    emit: Emit = lambda _: None
    mask: Callable[[str], str] = redact
    lock: threading.Lock = field(default_factory=threading.Lock)
