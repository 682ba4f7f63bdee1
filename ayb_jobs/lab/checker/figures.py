"""What a checked run comes to, in numbers."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ayb_jobs.lab.checker.evidence import Evidence, Fault, LeaseLife, Violation

# A peer counts that was at work for so long before a kill and after it.
PEER_BEFORE_S = 3.0
PEER_AFTER_S = 2.0

LOSSES = frozenset({"acknowledged_enqueue_lost", "completed_without_its_run", "never_ended"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The totals of a run.

    `recovery_p99_s` is from a daemon's death until a peer took over each job that it held, the worst of 99 in 100
    (None where no daemon died so); `extra_runs` are runs whose ending was not accepted. `hit_running` tells how many of
    the faults of each kind struck a daemon that held jobs then, and `backends` how many connections were terminated.
    """

    jobs: int
    runs: int
    extra_runs: int
    lost: int
    stale_accepted: int
    violations: int
    faults: Mapping[str, int]
    hit_running: Mapping[str, int]
    backends: int
    recovered: int
    recovery_p99_s: float | None


def figures(evidence: Evidence, violations: Sequence[Violation]) -> Figures:
    """Return the totals of what was checked."""
    recoveries = sorted(recovery_times(evidence))
    return Figures(
        jobs=sum(event.change == "insert" for event in evidence.events),
        runs=len(evidence.runs),
        extra_runs=sum(_lost(evidence.leases.get(run.lease_id)) for run in evidence.runs),
        lost=len({violation.job_id for violation in violations if violation.invariant in LOSSES}),
        stale_accepted=sum(violation.invariant == "stale_write_accepted" for violation in violations),
        violations=len(violations),
        faults=dict(sorted(Counter(fault.kind for fault in evidence.faults).items())),
        hit_running=dict(sorted(Counter(fault.kind for fault in faults_that_hit_running(evidence)).items())),
        backends=sum(fault.backends for fault in evidence.faults),
        recovered=len(recoveries),
        recovery_p99_s=round(recoveries[min(len(recoveries) - 1, len(recoveries) * 99 // 100)], 3)
        if recoveries
        else None,
    )


def faults_that_hit_running(evidence: Evidence) -> Iterator[Fault]:
    """Yield the faults that struck a daemon while it held jobs."""
    held: defaultdict[str, list[LeaseLife]] = defaultdict(list)
    for lease in evidence.leases.values():
        held[lease.holder].append(lease)
    for fault in evidence.faults:
        if any(lease.given.at <= fault.began < lease.ended for lease in held[fault.target]):
            yield fault


def recovery_times(evidence: Evidence) -> list[float]:
    """Return, for each job that a killed daemon held, the seconds from the kill until a peer took it over.

    Left out are kills during an outage of the database, or with no peer at work, which nobody could make good.
    """
    times = []
    for lease in evidence.leases.values():
        if lease.end is None or not lease.end.recovers:
            continue
        kill = next((f for f in evidence.faults_by_target.get(lease.holder, ()) if f.kind == "kill"), None)
        found = lease.end.at
        if kill is not None and not _out(evidence, kill.began, found) and _has_peer(evidence, kill.began):
            times.append(found - kill.began)
    return times


def _has_peer(evidence: Evidence, at: float) -> bool:
    return any(first <= at - PEER_BEFORE_S and at + PEER_AFTER_S <= last for first, last in evidence.working.values())


def _out(evidence: Evidence, since: float, until: float) -> bool:
    return any(fault.began <= until and fault.ended + 1.0 >= since for fault in evidence.outages)


def _lost(lease: LeaseLife | None) -> bool:
    return lease is not None and lease.end is not None and lease.end.recovers
