"""The invariants of pauses and of unique keys, one function each; its name is the invariant's name."""

from collections import defaultdict

from ayb_jobs.lab.checker.evidence import Event, Evidence, Findings, Run
from ayb_jobs.lab.checker.flow import JobPause


def paused_but_started(evidence: Evidence) -> Findings:
    """Once all living daemons have confirmed a pause, no handler of what is paused begins until it ends."""
    for pause in evidence.job_pauses:
        for run in evidence.runs:
            if pause.began < run.started < pause.ended and _is_paused(evidence, run, pause):
                after_s = run.started - pause.began
                yield f"it began on {run.writer} {after_s:.3f} s after its pause was in force", run.job_id


def _is_paused(evidence: Evidence, run: Run, pause: JobPause) -> bool:
    lease = evidence.leases.get(run.lease_id)
    if lease is None or lease.given.job_type not in pause.types:
        return False
    return pause.key is None or lease.given.limited_key == pause.key


def unique_broken(evidence: Evidence) -> Findings:
    """At most one job holds each unique key: it waits or runs, or has waited for its first lease alone."""
    holders: defaultdict[str, set[str]] = defaultdict(set)
    leased: set[str] = set()
    claimed: dict[str, str] = {}
    for event in evidence.events:
        if event.leases:
            leased.add(event.job_id)
        if event.claims is None and event.job_id not in claimed:
            continue
        key = event.claims or claimed[event.job_id]
        claimed[event.job_id] = key
        if not _holds(event, was_leased=event.job_id in leased):
            holders[key].discard(event.job_id)
        elif event.job_id not in holders[key]:
            holders[key].add(event.job_id)
            if others := holders[key] - {event.job_id}:
                yield f"it holds the unique key {key}, which job {min(others)} holds", event.job_id


def _holds(event: Event, *, was_leased: bool) -> bool:
    if event.change == "delete" or event.state not in {"queued", "running"}:
        return False
    return not (event.claims_waiting and was_leased)
