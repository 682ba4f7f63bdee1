"""What a queued job waits amid: who could run it, what is ahead of it, what holds it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from ayb_jobs.model.dependencies import Blocked
from ayb_jobs.model.job import Job
from ayb_jobs.model.lifecycle import Outcome
from ayb_jobs.model.limits import Limit
from ayb_jobs.model.pauses import Pause
from ayb_jobs.model.refusals import NOTHING_REFUSED, EndedJob, Refusals

# So many jobs ahead of one are looked at in each priority; more are as good as that.
MOST_AHEAD = 10_000


class Places(NamedTuple):
    """Where handlers of one kind run, how many slots that are, and how many are busy."""

    kind: str
    slots: int
    busy: int

    @property
    def is_full(self) -> bool:
        """Whether none of them is free."""
        return self.busy >= self.slots


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """What a live daemon can run: jobs of these types, from these queues, in so many slots, `busy` of them busy.

    Isolated and asynchronous handlers have places of their own. `queue_slots` has how many slots those queues may fill
    that may not fill all, and `queue_busy` how many of them are busy.
    """

    types: Sequence[str]
    queues: Sequence[str]
    id: str = ""
    slots: int = 0
    busy: int = 0
    isolated_types: Sequence[str] = ()
    isolated_slots: int = 0
    isolated_busy: int = 0
    async_types: Sequence[str] = ()
    async_slots: int = 0
    async_busy: int = 0
    queue_slots: Mapping[str, int] = field(default_factory=dict)
    queue_busy: Mapping[str, int] = field(default_factory=dict)

    def places(self, job_type: str) -> Places:
        """Return where jobs of a type run."""
        if job_type in self.isolated_types:
            return Places("isolated", self.isolated_slots, self.isolated_busy)
        if job_type in self.async_types:
            return Places("async", self.async_slots, self.async_busy)
        return Places("thread", self.slots, self.busy)

    def most(self, job_type: str, queue: str) -> int:
        """Return how many jobs of a type and a queue may run at once."""
        slots = self.places(job_type).slots
        return min(slots, self.queue_slots.get(queue, slots))

    def is_full(self, job_type: str, queue: str) -> bool:
        """Whether no slot is free for a job of this type and queue."""
        places = self.places(job_type)
        return places.is_full or self.queue_busy.get(queue, 0) >= self.queue_slots.get(queue, places.slots)

    def is_kept_full_by(self, ended: EndedJob, job: Job) -> bool:
        """Whether a job that has ended holds what a queued one waits for: a slot of its kind, or of its queue."""
        if ended.worker_id != self.id:
            return False
        places = self.places(job.type)
        return self.places(ended.type).kind == places.kind if places.is_full else ended.queue == job.queue


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAside:
    """Who set a job aside ("daemon …", "worker …"), and what the database said.

    If it `is_ending`, the job's handler has ended, and the database refuses to store how.
    """

    who: str
    error: str
    is_ending: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class UnderLimit:
    """The limit that a job waits under, or will once a daemon meets it, and what is known of its key there.

    So many of the key run, and its rate may allow a start.
    """

    limit: Limit
    key: str
    key_running: int
    key_may_start: bool

    def filled_by(self, ended: Sequence[EndedJob]) -> list[EndedJob]:
        """Return which of the jobs that have ended hold a place that a job waits for."""
        most, under = self.limit.new.max_running, [one for one in ended if one.limited_by == self.limit.new.name]
        if most is not None and self.limit.running >= most:
            return under
        most = self.limit.new.key_max_running
        is_full = most is not None and self.key_running >= most
        return [one for one in under if is_full and one.limited_key == self.key]


@dataclass(frozen=True, slots=True, kw_only=True)
class LastAttempt:
    """How the newest attempt at a job ended."""

    number: int
    outcome: Outcome
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a queued job waits amid.

    `due_for_s` is by the database's clock, below 0 if it is not due. `last_seen` is when any daemon was last heard
    of; None where none was within a day. `draining` daemons are alive beside the `runners`, and take no more. `ahead`
    counts the due jobs of its queue that live daemons can run and that are leased before it, among the first
    `MOST_AHEAD` of each priority; there are `more_ahead` if one has more than these. Of those daemons' jobs, `ended`
    ended within the last minute. `pause` is of its queue, its type or its key, and `under` is about the limit that it
    waits under. `locked_by` is the process id of the session that has locked its row. `blocked` is what it waits for if
    it depends on other jobs. `refusals` is what the database refuses to daemons, whatever job it is about.
    """

    due_for_s: float
    runners: Sequence[Runner]
    last_seen: datetime | None
    ahead: int
    more_ahead: bool = False
    draining: int = 0
    ended: int = 0
    pause: Pause | None = None
    under: UnderLimit | None = None
    last: LastAttempt | None = None
    aside: SetAside | None = None
    locked_by: int | None = None
    blocked: Blocked | None = None
    refusals: Refusals = NOTHING_REFUSED

    @property
    def is_due(self) -> bool:
        """Whether the job is due."""
        return self.due_for_s >= 0
