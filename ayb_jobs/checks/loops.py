"""Whether every loop of a daemon makes progress."""

from collections.abc import Sequence
from typing import NamedTuple

from ayb_jobs.checks.database import disk_full
from ayb_jobs.checks.finding import Finding, Severity
from ayb_jobs.model.waiting import first_line
from ayb_jobs.model.words import one_line
from ayb_jobs.redact import redact
from ayb_jobs.storage.faults import is_disk_full

# A loop that has failed for so long is worth a word. One whose server restarts goes on sooner.
TROUBLED_S = 5.0


class LoopAge(NamedTuple):
    """For how many seconds a loop has been due without a success, and from how many on it is not healthy.

    `failing`: its last turn failed, with `error`. `waits_for_database`: it failed because there is no database to work
    with.
    """

    name: str
    age_s: float
    limit_s: float
    failing: bool = False
    waits_for_database: bool = False
    error: BaseException | None = None

    @property
    def is_stuck(self) -> bool:
        """Whether it has made no progress for longer than it may."""
        return self.age_s > self.limit_s

    @property
    def is_troubled(self) -> bool:
        """Whether it has failed for some seconds, and not yet for longer than it may."""
        return self.failing and not self.is_stuck and self.age_s > TROUBLED_S

    @property
    def needs_restart(self) -> bool:
        """Whether it is stuck for a reason that a restart of the daemon may end; an outage of the database is none."""
        return self.is_stuck and not self.waits_for_database


def stuck_loops(loops: Sequence[LoopAge]) -> list[Finding]:
    """Find the loops that have made no progress for longer than they may."""
    return [_failing(loop) if loop.failing else _silent(loop) for loop in loops if loop.is_stuck]


def troubled_loops(loops: Sequence[LoopAge]) -> list[Finding]:
    """Find the loops that have failed for some seconds."""
    return [_failing(loop, Severity.WARNING) for loop in loops if loop.is_troubled]


def loops_without_room(loops: Sequence[LoopAge]) -> list[Finding]:
    """Find that loops fail because a disk of the database is full. That is no matter of seconds: it is told at once."""
    names = [loop.name for loop in loops if is_disk_full(loop.error)]
    many = f"loop {names[0]} fails" if len(names) == 1 else f"loops {', '.join(names)} fail"
    return [disk_full(many)] if names else []


def _failing(loop: LoopAge, severity: Severity = Severity.FAILING) -> Finding:
    failed = f"loop {loop.name} has failed for {loop.age_s:.1f} s"
    return Finding(
        name="loop.failing",
        severity=severity,
        fact=f"{failed}; the log has the details",
        named=f"{failed}: {one_line(redact(first_line(str(loop.error))))}" if loop.error and str(loop.error) else "",
        meaning="The daemon tries again and again, and the work of this loop is not done.",
        remedy="Look for loop.failed in the log.",
        evidence={"loop": loop.name, "ageSec": loop.age_s},
    )


def _silent(loop: LoopAge) -> Finding:
    return Finding(
        name="loop.stuck",
        severity=Severity.FAILING,
        fact=f"loop {loop.name} has made no progress for {loop.age_s:.1f} s; {loop.limit_s:g} s are its limit",
        meaning="A turn of this loop hangs, and its work is not done.",
        remedy="Restart the daemon; its jobs run again.",
        evidence={"loop": loop.name, "ageSec": loop.age_s, "limitSec": loop.limit_s},
    )
