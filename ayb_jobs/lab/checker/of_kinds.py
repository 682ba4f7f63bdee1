"""The invariants of jobs that run outside of their daemon, one function each; its name is the invariant's name."""

from collections import Counter, defaultdict

from ayb_jobs.lab.checker.evidence import Evidence, Findings


def ran_elsewhere_without_lease(evidence: Evidence) -> Findings:
    """A command, a request, a statement or a cleanup runs under a lease of its job, and once for each."""
    given: defaultdict[tuple[str, int], list[float]] = defaultdict(list)
    for event in evidence.events:
        if event.leases:
            given[event.job_id, event.attempts].append(event.at)
    ran: Counter[tuple[str, int]] = Counter()
    for run in sorted(evidence.elsewhere, key=lambda run: run.started):
        leases = given[run.job_id, run.attempt]
        ran[run.job_id, run.attempt] += 1
        before = sum(at <= run.started + evidence.limits.clock_s for at in leases)
        if ran[run.job_id, run.attempt] > before:
            yield f"attempt {run.attempt} ran outside of its daemon, with {before} leases by then", run.job_id
