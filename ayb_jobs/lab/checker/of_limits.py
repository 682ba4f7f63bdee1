"""The invariants of jobs under limits, one function each; its name is the invariant's name."""

from collections.abc import Iterator

from ayb_jobs.lab.checker.evidence import Event, Evidence, Findings, JobLimit

# A start is written down some time after its token was taken, which a busy server makes long.
LATE_S = 0.25


def limit_exceeded(evidence: Evidence) -> Findings:
    """Never more jobs run than their limit allows, over all daemons and through all faults."""
    for limit in evidence.job_limits:
        running: set[str] = set()
        for event in _events(evidence, limit) if limit.max_running is not None else ():
            if event.state != "running" or event.change == "delete":
                running.discard(event.job_id)
                continue
            running.add(event.job_id)
            if event.leases and len(running) > (limit.max_running or 0):
                yield f"it is one of {len(running)} that run under {limit.name}, of {limit.max_running}", event.job_id


def rate_exceeded(evidence: Evidence) -> Findings:
    """Never do more jobs start than their rate and its burst allow."""
    for limit in evidence.job_limits:
        if not limit.interval_s:
            continue
        allowed_s = limit.burst * limit.interval_s + LATE_S
        free_at = float("-inf")  # when the burst is whole again
        for event in _events(evidence, limit):
            if event.leases:
                free_at = max(free_at, event.at) + limit.interval_s
                if free_at > event.at + allowed_s:
                    early_s = free_at - event.at - allowed_s
                    yield f"started {early_s:.3f} s before the rate of {limit.name} allows it", event.job_id


def place_leaked(evidence: Evidence) -> Findings:
    """Once faults stop, no place is held under a lease that ran out, and no job waits while no place is taken."""
    if not evidence.events:
        return
    end = evidence.events[-1].at - evidence.limits.recovery_s
    for limit in evidence.job_limits:
        last = {event.job_id: event for event in _events(evidence, limit) if event.change != "delete"}
        running = [event for event in last.values() if event.state == "running"]
        for event in running:
            if (event.lease_until or 0.0) < end:
                yield f"it holds a place under {limit.name}, and its lease ran out", event.job_id
        waiting = [event for event in last.values() if event.state == "queued" and event.run_at < end]
        if waiting and not running:
            yield f"it waits under {limit.name}, although none of its places is taken", waiting[0].job_id


def _events(evidence: Evidence, limit: JobLimit) -> Iterator[Event]:
    return (event for event in evidence.events if event.job_type in limit.types)
