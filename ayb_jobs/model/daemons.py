"""A daemon: as it says of itself, and as the others know it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonRecord:
    """A daemon: its id is unique to one start of the process, host and pid are labels."""

    id: str
    host: str
    pid: int
    version: str
    concurrency: int
    queues: Sequence[str]
    types: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenDaemon:
    """A daemon as the database knows it; `running` are the ids of the jobs that it holds, at most 1,000."""

    daemon: DaemonRecord
    started_at: datetime
    heartbeat_at: datetime
    silent_s: float
    running: Sequence[str]
