"""A daemon: as it says of itself, and as the others know it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from ayb_jobs.errors import InvalidInput
from ayb_jobs.frozen import frozen
from ayb_jobs.model.checked import checked_text

MAX_ID = 255
JOBS = "_ayb_jobs"
# Where a daemon's row tells of the jobs of which the database refuses to store the ending, beside tables' names.
ENDINGS = "endings"
# The same for tables of which retention could not remove what is old.
OLD_ROWS = "old rows"
# So many rows of a table it tells of; the others are in the log.
MOST_ASIDE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonRecord:
    """A daemon: its id is unique to one start of the process, host and pid are labels.

    Isolated and asynchronous handlers do not run in the slots that `concurrency` counts, and have places of their own.
    `queue_slots` has how many slots those queues may fill that may not fill all. One that drains takes no more jobs: it
    was asked to drain, or stops.
    """

    id: str
    host: str
    pid: int
    version: str
    concurrency: int
    queues: Sequence[str]
    types: Sequence[str]
    isolated_types: Sequence[str] = ()
    isolated_slots: int = 0
    async_types: Sequence[str] = ()
    async_slots: int = 0
    queue_slots: Mapping[str, int] = field(default_factory=dict)
    has_scheduler: bool = True
    drains: bool = False

    @property
    def slots(self) -> int:
        """How many handlers run at once."""
        return self.concurrency + self.isolated_slots + self.async_slots


@frozen
class SeenDaemon:
    """A daemon as the database knows it; `running` are the ids of the jobs that it holds, at most 1,000.

    If it is `cut`, it holds more than these.
    `drain_requested_at` is since when it drains: when an operator asked it to, or a signal had it drain or stop.
    `stuck_loops` are those of its loops that have made no progress for longer than they may, and so many `stuck_slots`
    are held by handlers that were told to stop and did not.
    """

    daemon: DaemonRecord
    started_at: datetime
    heartbeat_at: datetime
    drain_requested_at: datetime | None
    silent_s: float
    running: Sequence[str]
    cut: bool = False
    stuck_loops: Sequence[str] = ()
    stuck_slots: int = 0

    @property
    def known_s(self) -> float:
        """How long it was up when it was last heard of."""
        return (self.heartbeat_at - self.started_at).total_seconds()

    @property
    def up_s(self) -> float:
        """How long ago it started: how long it has been up, if it is alive."""
        return self.known_s + self.silent_s


def checked_daemon(text: str) -> str:
    """Return a daemon's id, or a part of one, as the database takes it; raises `InvalidInput`."""
    if not text.strip():
        raise InvalidInput("daemon is empty; a daemon's id or a part of it is needed", field="daemon")
    return checked_text(text, "daemon", MAX_ID)
