"""The invariants of a fleet: its schedules, its promptness, its stops and its sums; one function each, by its name."""

from collections.abc import Callable, Mapping
from itertools import pairwise
from statistics import median

from ayb_jobs.lab.checker.evidence import Event, Evidence, Fault, Findings

# So long after an outage a daemon may still be connecting.
BACK_S = 1.0


def schedule_fired_twice(evidence: Evidence) -> Findings:
    """Each nominal fire of each schedule made at most one job, and none before its time."""
    seen: dict[tuple[str, float], str] = {}
    for event in evidence.events:
        if event.change != "insert" or event.schedule_id is None or event.scheduled_for is None:
            continue
        fire = (event.schedule_id, event.scheduled_for)
        if fire in seen:
            yield f"the fire of schedule {event.schedule_id} made two jobs", event.job_id
        seen[fire] = event.job_id
        if event.scheduled_for > event.at + evidence.limits.clock_s:
            yield f"fired {event.scheduled_for - event.at:.1f} s before its time", event.job_id


def schedule_fire_missing(evidence: Evidence) -> Findings:
    """A schedule that catches up on all it missed has a job for each nominal fire between its first and its last."""
    for schedule_id, every_s in evidence.every_second.items():
        fires = sorted(
            event.scheduled_for
            for event in evidence.events
            if event.change == "insert" and event.schedule_id == schedule_id and event.scheduled_for is not None
        )
        if not fires:
            yield f"schedule {schedule_id} never fired", None
        for earlier, later in pairwise(fires):
            if later - earlier > every_s * 1.5:
                yield f"schedule {schedule_id} left out {round((later - earlier) / every_s) - 1} fires", None


def recovered_late(evidence: Evidence) -> Findings:
    """A lease that ran out is found within its bound of a daemon's working, outages not counted."""
    for lease in evidence.leases.values():
        end = lease.end
        if end is None or not end.recovers or end.at - lease.until <= evidence.limits.recovery_s:
            continue
        late_s = max(_worked_s(evidence, daemon, lease.until, end.at) for daemon in evidence.working)
        if late_s > evidence.limits.recovery_s:
            yield f"a daemon worked for {late_s:.1f} s and did not find that its lease had run out", lease.given.job_id


def _worked_s(evidence: Evidence, daemon: str, since: float, until: float) -> float:
    """Return for how long a daemon was at work in an interval, times without the database not counted."""
    first, last = evidence.working[daemon]
    reached, end = max(since, first), min(until, last)
    worked_s = max(0.0, end - reached)
    for away, back in evidence.times_away:
        began, ended = max(away, reached), min(back + BACK_S, end)
        if ended > began:
            worked_s -= ended - began
            reached = ended
    return worked_s


def notifications_unheard(evidence: Evidence) -> Findings:
    """An idle fleet that can hear notifications leases a new job long before it would look by itself."""
    waits = []
    for events in evidence.by_job.values():
        first = events[0]
        if first.key in evidence.probes:
            waits.append(next((event.at for event in events if event.leases), float("inf")) - first.at)
    if waits and median(waits) > evidence.limits.pickup_s:
        yield f"half of {len(waits)} jobs waited {median(waits):.2f} s or more for an idle fleet", None


def stop_used_up_an_attempt(evidence: Evidence) -> Findings:
    """What a daemon holds that is asked to stop ends, or goes back with its attempt, unless the database was away."""
    for lease in evidence.leases.values():
        if lease.end is None or not lease.end.recovers:
            continue
        for fault in evidence.faults_by_target.get(lease.holder, ()):
            if (
                fault.graceful
                and not _away(fault, evidence)
                and lease.given.at <= fault.ended
                and fault.began <= lease.end.at
                and not _broken(lease.holder, evidence)
            ):
                yield f"{lease.holder} was asked to stop, and lost it", lease.given.job_id


def _away(fault: Fault, evidence: Evidence) -> bool:
    """Tell whether the database was away during a fault, or right before it, for longer than a daemon has to bear."""
    return any(
        ended - began >= evidence.limits.margin_s and began <= fault.ended and ended + BACK_S >= fault.began
        for began, ended in evidence.times_away
    )


def _broken(daemon: str, evidence: Evidence) -> bool:
    return any(not fault.graceful for fault in evidence.faults_by_target.get(daemon, ()))


def rows_do_not_add_up(evidence: Evidence) -> Findings:
    """At each snapshot, rows in less rows out are the rows there."""
    for snapshot in evidence.snapshots:
        there = sum(snapshot.rows.values())
        if snapshot.inserted - snapshot.deleted != there:
            yield f"{snapshot.inserted} in, {snapshot.deleted} out, and {there} there", None


def metrics_do_not_add_up(evidence: Evidence) -> Findings:
    """At each quiet moment at which the daemons' counters were asked for, they are what the event log says."""
    for snapshot in evidence.snapshots:
        if snapshot.metrics is None:
            continue
        so_far = [e for e in evidence.events if e.at <= snapshot.at and e.writer not in evidence.workers]
        for names, counts in COUNTED.items():
            told = sum(snapshot.metrics.get(f"ayb_jobs_{name}", 0) for name in names)
            happened = sum(map(counts, so_far))
            if told != happened:
                yield f"the metrics tell of {told:g} {' and '.join(names)}, the event log of {happened}", None


def _ends(event: Event, state: str) -> bool:
    """Tell whether a daemon's word, and not a client's, ended a run so."""
    return event.ends_lease and event.state == state and not event.recovers


# Counters of the daemons, by what they count in the event log; snoozed and retried differ in no column.
COUNTED: Mapping[tuple[str, ...], Callable[[Event], bool]] = {
    ("enqueued",): lambda event: event.change == "insert" and event.schedule_id is not None,
    ("leased",): lambda event: event.leases,
    ("completed",): lambda event: _ends(event, "completed"),
    ("failed",): lambda event: event.ends_lease and event.state == "failed",
    ("canceled",): lambda event: _ends(event, "canceled"),
    ("retried", "snoozed"): lambda event: _ends(event, "queued") and not event.gives_back,
    ("released",): lambda event: event.gives_back,
    ("recovered",): lambda event: event.recovers,
}


def stop_not_graceful(evidence: Evidence) -> Findings:
    """A daemon that is asked to stop ends in time, with exit code 0.

    Or with 1, where the database was away and handlers waited for it longer than the daemon for them.
    """
    for fault in evidence.faults:
        if not fault.graceful:
            continue
        if fault.ended - fault.began > evidence.limits.stop_s:
            yield f"{fault.target} took {fault.ended - fault.began:.1f} s to stop", None
        if fault.detail not in ("", "exit 0") and not (fault.detail == "exit 1" and _away(fault, evidence)):
            yield f"{fault.target} was asked to stop and ended with {fault.detail}", None


def noticed_late(evidence: Evidence) -> Findings:
    """A daemon whose packets are dropped without a word notices it in time."""
    for fault in evidence.faults:
        if fault.noticed is not None and fault.noticed - fault.began > evidence.limits.notice_s:
            yield f"{fault.target} was cut off, and {fault.detail}", None
