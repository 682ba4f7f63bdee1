"""The invariants of jobs under limits, one function each; its name is the invariant's name."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from heapq import heappop, heappush

from ayb_jobs.lab.checker.evidence import Event, Evidence, Findings, Run
from ayb_jobs.lab.checker.flow import JobLimit
from ayb_jobs.lab.checker.of_jobs import was_struck

# What sums of instants lose as floating-point numbers.
ROUNDING_S = 1e-5


def limit_exceeded(evidence: Evidence) -> Findings:
    """Never more jobs run than their limit allows, over all daemons and through all faults: by rows and by handlers."""
    for limit in evidence.job_limits:
        for most, is_of_keys in ((limit.max_running, False), (limit.key_max_running, True)):
            for name, events in _groups(evidence, limit, is_of_keys=is_of_keys).items() if most is not None else ():
                yield from _rows_beyond(most or 0, name, events)
                yield from _handlers_beyond(evidence, most or 0, name, {event.job_id for event in events})


def _rows_beyond(most: int, name: str, events: Sequence[Event]) -> Findings:
    running: set[str] = set()
    for event in events:
        if event.state != "running" or event.change == "delete":
            running.discard(event.job_id)
            continue
        running.add(event.job_id)
        if event.leases and len(running) > most:
            yield f"it is one of {len(running)} that run under {name}, of {most}", event.job_id


def _handlers_beyond(evidence: Evidence, most: int, name: str, job_ids: Collection[str]) -> Findings:
    ends: list[float] = []
    runs = [run for job_id in job_ids for run in evidence.runs_by_job.get(job_id, ())]
    for run in sorted(runs, key=lambda run: run.started):
        while ends and ends[0] <= run.started:
            heappop(ends)
        if (until := _held_until(evidence, run)) > run.started:
            heappush(ends, until)
            if len(ends) > most:
                yield f"its handler is one of {len(ends)} that run under {name}, of {most}", run.job_id


def _held_until(evidence: Evidence, run: Run) -> float:
    """Return how long a handler may keep others from starting: to its end, but past no lease that a fault cost it."""
    lease = evidence.leases.get(run.lease_id)
    if lease is None:  # told of as `run_without_lease`
        return run.started
    if run.ended is None:  # its daemon was killed
        return lease.ended
    is_lost = lease.end is not None and lease.end.recovers and was_struck(lease, evidence, before=lease.ended)
    return min(run.ended, lease.ended) if is_lost else run.ended


def rate_exceeded(evidence: Evidence) -> Findings:
    """In no span of time do more jobs start than their burst and their rate allow, by the database's clock."""
    for limit in evidence.job_limits:
        of_all = (limit.interval_s, limit.burst, False)
        for interval_s, burst, is_of_keys in (of_all, (limit.key_interval_s, limit.key_burst, True)):
            for name, events in _groups(evidence, limit, is_of_keys=is_of_keys).items() if interval_s else ():
                yield from _starts_beyond(interval_s or 0.0, burst, name, [event for event in events if event.leases])


def _starts_beyond(interval_s: float, burst: int, name: str, starts: Sequence[Event]) -> Findings:
    """Judge every span from one start to a later one.

    When a token was spent, nobody has written down: it was behind the beginning of the leasing transaction and behind
    the lease before it, since whoever spends one holds the limit, and before the lease was written. Each span is taken
    to be as long as that allows.
    """
    most_ahead = before = float("-inf")
    leasing = None
    for number, event in enumerate(starts, 1):
        began = event.at if event.leased_at is None else event.leased_at
        if (event.writer, began) != leasing:
            leasing, behind = (event.writer, began), before
        before = event.at
        most_ahead = max(most_ahead, max(began, behind) - (number - 1) * interval_s)
        early_s = most_ahead + number * interval_s - event.at - burst * interval_s
        if early_s > ROUNDING_S:
            yield f"started {early_s:.3f} s before the rate of {name} allows it", event.job_id


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


def _groups(evidence: Evidence, limit: JobLimit, *, is_of_keys: bool) -> Mapping[str, Sequence[Event]]:
    """Return the events of a limit's jobs by what is limited together: all of them, or those of each key.

    A job has a key once it was put under its limit.
    """
    if not is_of_keys:
        return {limit.name: list(_events(evidence, limit))}
    groups: defaultdict[str, list[Event]] = defaultdict(list)
    for event in _events(evidence, limit):
        if event.limited_key is not None:
            groups[f"{limit.name}/{event.limited_key}"].append(event)
    return groups


def _events(evidence: Evidence, limit: JobLimit) -> Iterator[Event]:
    return (event for event in evidence.events if event.job_type in limit.types)
