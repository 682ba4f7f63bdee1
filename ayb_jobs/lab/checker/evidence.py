"""What the checker reads.

All instants are seconds on one clock, the monotonic clock of the host that collected them.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple, TypeVar

from ayb_jobs.lab.checker.flow import BatchLife, Dependency, JobLimit, JobPause

Change = Literal["insert", "update", "delete"]
Answer = Literal["ok", "fail", "unknown"]
Ending = Literal["ok", "error", "stopped", "unknown"]
Findings = Iterator[tuple[str, str | None]]  # what is wrong, and the job concerned, if any
K = TypeVar("K")
V = TypeVar("V")


class Event(NamedTuple):
    """One change of one job's row, in the order of `seq`; `was_…` is the value before the change.

    `writer` is the application name of the connection that wrote it without its run, and names one start of one daemon.
    A job that is to end canceled still has its lease here; `asks_cancel` marks the change that asked for it. Its
    payload names the unique key that it `claims`, which only a job that waits holds if `claims_waiting`. Its key under
    its limit is `limited_key`. The transaction that leased it last began `leased_at`.
    """

    seq: int
    at: float
    change: Change
    job_id: str
    job_type: str
    key: str | None
    was_state: str | None
    state: str | None
    was_attempts: int
    attempts: int
    max_attempts: int
    was_crashes: int
    crashes: int
    was_lease_id: str | None
    lease_id: str | None
    was_lease_until: float | None
    lease_until: float | None
    run_at: float
    schedule_id: str | None
    scheduled_for: float | None
    writer: str
    asks_cancel: bool = False
    claims: str | None = None
    claims_waiting: bool = False
    limited_key: str | None = None
    leased_at: float | None = None

    @property
    def leases(self) -> bool:
        """Whether the change gave out a lease."""
        return self.lease_id is not None and self.lease_id != self.was_lease_id

    @property
    def ends_lease(self) -> bool:
        """Whether the change ended a lease."""
        return self.was_lease_id is not None and self.lease_id != self.was_lease_id

    @property
    def recovers(self) -> bool:
        """Whether the change took a lease from a daemon that lost it."""
        return self.ends_lease and self.crashes > self.was_crashes

    @property
    def gives_back(self) -> bool:
        """Whether a daemon released the job together with its attempt."""
        return self.ends_lease and self.state == "queued" and self.attempts < self.was_attempts


class Operation(NamedTuple):
    """What a client asked for, by the idempotency key of the job, and what it was told.

    `unknown` where no answer came.
    """

    kind: Literal["enqueue", "cancel", "retry"]
    key: str
    answer: Answer
    job_id: str | None
    asked: float
    answered: float | None


class Run(NamedTuple):
    """One run of a handler, as it saw it: under which lease, from when to when.

    `unknown` where it never said how it ended.
    """

    job_id: str
    lease_id: str
    attempt: int
    writer: str
    started: float
    ended: float | None
    ending: Ending


class RunElsewhere(NamedTuple):
    """A run of a job outside of any daemon: a command, a request, a statement. It knows of no lease."""

    job_id: str
    attempt: int
    started: float
    ended: float | None


class Fault(NamedTuple):
    """A fault that was injected. `target` is the application name of one start of a daemon, or `database`.

    `graceful` is set where the target was asked to stop and not broken. `detail` is for people. `backends` tells how
    many of the database's connections it terminated. `noticed` is when the target complained of it (infinity where it
    never did), for a fault that no daemon is told of; None where nobody looked.
    """

    kind: str
    target: str
    began: float
    ended: float
    graceful: bool = False
    detail: str = ""
    backends: int = 0
    noticed: float | None = None

    @property
    def on_database(self) -> bool:
        """Whether the fault struck the database and so every daemon."""
        return self.target == DATABASE

    @property
    def ends_target(self) -> bool:
        """Whether the target is dead after it: what it had sent before may still be carried out."""
        return self.kind not in PASSING


DATABASE = "database"
TERMINATE = "terminate"
PASSING = frozenset({"pause", "cut"})


class Snapshot(NamedTuple):
    """The table at one moment: rows by state, and how many were ever inserted and deleted by the event log.

    `metrics` are the daemons' counters, added up, by their names; for a quiet moment of a run in which no daemon died,
    since what it counted dies with it.
    """

    at: float
    rows: Mapping[str, int]
    inserted: int
    deleted: int
    metrics: Mapping[str, float] | None = None


class Violation(NamedTuple):
    """A broken invariant: its name, what shows it, and the job concerned, if any."""

    invariant: str
    message: str
    job_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The bounds that hold for what is checked, in seconds.

    A lease lasts `lease_s`. What it lost is found within `recovery_s` of its expiry by a daemon that can work. Two
    clocks were aligned to within `clock_s`. An outage shorter than `margin_s` costs no run. A daemon that is asked to
    stop ends within `stop_s`, and an idle fleet notices a new job within `pickup_s`, most of the time. A daemon notices
    within `notice_s` that its packets are dropped.
    """

    lease_s: float
    recovery_s: float = 5.0
    clock_s: float = 0.05
    margin_s: float = 0.0
    stop_s: float = 30.0
    pickup_s: float = 1.0
    notice_s: float = 10.0


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that is known of what happened, and the bounds to hold it against.

    `probes` are the keys of jobs that were enqueued one by one while the fleet was idle. `every_second` names schedules
    that catch up on all they missed, and the seconds between their fires. `committed` tells how often each job of the
    type `transactional` left its effect, which its handler commits together with the job's completion. Jobs of
    `types_elsewhere` have no `runs`, but runs `elsewhere`. `workers` are the writers that are no daemons: they lease
    and settle by SQL, and do nothing else.
    """

    events: Sequence[Event]
    operations: Sequence[Operation]
    runs: Sequence[Run]
    limits: Limits
    faults: Sequence[Fault] = ()
    snapshots: Sequence[Snapshot] = ()
    probes: Sequence[str] = ()
    every_second: Mapping[str, float] = field(default_factory=dict)
    transactional: str = ""
    committed: Mapping[str, int] = field(default_factory=dict)
    dependencies: Sequence[Dependency] = ()
    batches: Sequence[BatchLife] = ()
    job_limits: Sequence[JobLimit] = ()
    job_pauses: Sequence[JobPause] = ()
    elsewhere: Sequence[RunElsewhere] = ()
    types_elsewhere: frozenset[str] = frozenset()
    workers: frozenset[str] = frozenset()

    @cached_property
    def by_job(self) -> Mapping[str, Sequence[Event]]:
        """The events of each job, in order."""
        return _grouped((event.job_id, event) for event in self.events)

    @cached_property
    def leases(self) -> Mapping[str, "LeaseLife"]:
        """Every lease that was given out, by its id."""
        lives: dict[str, LeaseLife] = {}
        for event in self.events:
            if event.was_lease_id in lives:
                lives[event.was_lease_id].note(event)
            if event.leases and event.lease_id is not None:
                lives[event.lease_id] = LeaseLife(event)
        return lives

    @cached_property
    def runs_by_lease(self) -> Mapping[str, Run]:
        """Each run by its lease; where one lease was run twice, the first."""
        runs: dict[str, Run] = {}
        for run in self.runs:
            runs.setdefault(run.lease_id, run)
        return runs

    @cached_property
    def runs_by_job(self) -> Mapping[str, Sequence[Run]]:
        """The runs of each job."""
        return _grouped((run.job_id, run) for run in self.runs)

    @cached_property
    def outages(self) -> Sequence[Fault]:
        """The faults that struck the database, in the order of time."""
        return sorted((fault for fault in self.faults if fault.on_database), key=lambda fault: fault.began)

    @cached_property
    def times_away(self) -> Sequence[tuple[float, float]]:
        """From when until when the database could not be had; several outages without a second between them are one.

        Connections that are terminated can be had again at once.
        """
        spans: list[tuple[float, float]] = []
        for fault in self.outages:
            if fault.kind == TERMINATE:
                continue
            began, ended = fault.began, fault.ended
            if spans and began - spans[-1][1] < 1.0:
                began, ended = spans[-1][0], max(ended, spans.pop()[1])
            spans.append((began, ended))
        return spans

    @cached_property
    def working(self) -> Mapping[str, tuple[float, float]]:
        """From its first write to the first fault that struck it: when each start of a daemon was surely at work."""
        first: dict[str, float] = {}
        for event in self.events:
            if event.leases and event.writer not in self.workers:
                first.setdefault(event.writer, event.at)
        end = self.events[-1].at if self.events else 0.0
        return {
            daemon: (began, min((fault.began for fault in self.faults_by_target.get(daemon, ())), default=end))
            for daemon, began in first.items()
        }

    @cached_property
    def faults_by_target(self) -> Mapping[str, Sequence[Fault]]:
        """The faults that struck one start of one daemon, by its application name."""
        return _grouped((fault.target, fault) for fault in self.faults)


class LeaseLife:
    """One lease: who got it, until when it was valid, and the change that ended it (None where it lives)."""

    __slots__ = ("end", "given", "until")

    def __init__(self, given: Event) -> None:
        self.given = given
        self.until = given.lease_until if given.lease_until is not None else given.at
        self.end: Event | None = None

    def note(self, event: Event) -> None:
        """Take in a later change of the job."""
        if event.ends_lease:
            self.end = event
        elif event.lease_until is not None:
            self.until = event.lease_until

    @property
    def holder(self) -> str:
        """The application name of whoever leased the job."""
        return self.given.writer

    @property
    def ended(self) -> float:
        """When the lease ended; infinity where it lives."""
        return float("inf") if self.end is None else self.end.at


def _grouped(pairs: Iterable[tuple[K, V]]) -> dict[K, list[V]]:
    groups: defaultdict[K, list[V]] = defaultdict(list)
    for key, value in pairs:
        groups[key].append(value)
    return groups
