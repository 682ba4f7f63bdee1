"""What the producer's parts share: for whom jobs are leased and which ones."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from ayb_jobs.runtime.jobs.limits import Limits
from ayb_jobs.runtime.jobs.queue_slots import QueueSlots


@dataclass(frozen=True, slots=True, kw_only=True)
class Leasing:
    """Lease jobs of these queues and types for this daemon, for `lease_s` seconds; look every `poll_s` seconds."""

    worker_id: str
    queues: Sequence[str]
    types: Sequence[str]
    lease_s: float
    poll_s: float
    limits: Limits = field(default_factory=Limits)
    slots: QueueSlots = field(default_factory=QueueSlots)
