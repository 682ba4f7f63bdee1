"""The jobs that this process holds: leased, and not yet settled or lost."""

import time
from collections.abc import Iterable, Sequence

from ayb_jobs.handlers.context import JobContext
from ayb_jobs.model.job import Lease, LeasedJob


class Held:
    """One held job.

    `arrived` is when the leasing statement's answer came, long after its lease began if the database is slow, and
    `extended` when its lease was last known to start anew, on the monotonic clock.
    If it is `lost`, its handler does not begin, and its outcome is not written. If it is `canceling`, it ends canceled.
    `context` is set once its handler begins, and `ended` once its outcome is to be written. It is `abandoned` once its
    attempt was settled although the handler runs on. If it is `sent`, its handler may have begun elsewhere: a child
    process was ordered to run it. Its ending is `handed_over` once somebody has it who sees that it is written.
    """

    __slots__ = (
        "abandoned",
        "arrived",
        "canceling",
        "context",
        "ended",
        "extended",
        "handed_over",
        "job",
        "lost",
        "sent",
        "started",
    )

    def __init__(self, job: LeasedJob, leased: float, arrived: float | None = None) -> None:
        self.job = job
        self.arrived = leased if arrived is None else arrived
        self.extended = leased
        self.context: JobContext | None = None
        self.started = 0.0
        self.ended = False
        self.abandoned = False
        self.lost = False
        self.canceling = False
        self.sent = False
        self.handed_over = False

    @property
    def never_begins(self) -> bool:
        """Whether it was canceled before its handler began. Until a slot has ended it so, its lease is ours to keep."""
        return self.canceling and self.context is None


class InFlight:
    """The set of held jobs.

    Keyed by lease, since a job that was lost and leased again by this very process is held twice for a while. Each
    method is a few dictionary operations, atomic by themselves, so that no lock is taken per job.
    """

    def __init__(self) -> None:
        self._held: dict[str, Held] = {}

    def __len__(self) -> int:
        return len(self._held)

    def add(self, jobs: Sequence[LeasedJob], leased: float) -> list[Held]:
        """Hold these jobs, whose leasing statement was sent at `leased` on the monotonic clock."""
        arrived = time.monotonic()
        held = [Held(job, leased, arrived) for job in jobs]
        self._held.update(zip([job.lease_id for job in jobs], held, strict=True))
        return held

    def remove(self, lease_ids: Iterable[str]) -> None:
        """Hold these no longer."""
        for lease_id in lease_ids:
            self._held.pop(lease_id, None)

    def all(self) -> list[Held]:
        """Return what is held now."""
        return list(self._held.values())

    def holds(self, held: Held) -> bool:
        """Tell whether this job is still held."""
        return held.job.lease_id in self._held

    def lose(self, held: Held) -> None:
        """Let a job go whose lease is lost: its handler is told to stop, or never begins.

        One that runs stays held until its handler ends, so that it is counted as what occupies a slot.
        """
        held.lost = True
        if held.context is None:
            self.remove([held.job.lease_id])
        else:
            held.context.stop("lease_lost")

    def cancel(self, held: Held) -> None:
        """Have a job end canceled: its handler is told to stop, or never begins. A second call does nothing."""
        if held.canceling:
            return
        held.canceling = True
        held.lost = True  # first: a handler that begins meanwhile looks here
        if held.context is not None:
            held.lost = False
            held.context.stop("canceled")

    def running(self) -> list[Held]:
        """Return those whose handler has begun."""
        return [held for held in self.all() if held.context is not None]


def leases_of(held: Sequence[Held]) -> list[Lease]:
    """Return the leases of these jobs."""
    return [one.job.lease for one in held]
