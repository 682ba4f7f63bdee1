"""The invariants of a single job's life, one function each; its name is the invariant's name."""

from collections import Counter, defaultdict

from ayb_jobs.lab.checker.evidence import Event, Evidence, Findings, LeaseLife
from ayb_jobs.model.job import JobState
from ayb_jobs.model.lifecycle import TRANSITIONS

TERMINAL = frozenset({"completed", "failed", "canceled"})


def acknowledged_enqueue_lost(evidence: Evidence) -> Findings:
    """No acknowledged enqueue is lost; one whose answer is unknown made one job or none, one that failed made none."""
    inserted: defaultdict[str, list[str]] = defaultdict(list)
    for event in evidence.events:
        if event.change == "insert" and event.key is not None:
            inserted[event.key].append(event.job_id)
    for operation in evidence.operations:
        if operation.kind != "enqueue":
            continue
        made = inserted[operation.key]
        if operation.answer == "ok" and operation.job_id not in made:
            yield (
                f"job {operation.job_id} was acknowledged for key {operation.key}, and never came to be",
                operation.job_id,
            )
        if len(made) > 1:
            yield f"key {operation.key} made {len(made)} jobs", made[0]
        if operation.answer == "fail" and made:
            yield f"key {operation.key} was refused, and made a job", made[0]


def change_after_completion(evidence: Evidence) -> Findings:
    """Nothing happens to a job after its completion was accepted, but that it is pruned."""
    for job_id, events in evidence.by_job.items():
        completed = False
        for event in events:
            if completed and event.change != "delete":
                yield f"{event.was_state} became {event.state} by {event.writer} after completion", job_id
            completed = completed or event.state == "completed"


def stale_write_accepted(evidence: Evidence) -> Findings:
    """At most one lease is valid per job at a time, and every accepted write about a run carries it."""
    for event in evidence.events:
        if event.lease_id is None and event.lease_until is not None and event.change == "update":
            yield f"{event.writer} extended a lease that nobody has", event.job_id
        lease = evidence.leases.get(event.was_lease_id or "")
        if lease is None or event.change == "insert" or event.asks_cancel:
            continue
        if event.leases:
            yield f"leased to {event.writer} while leased to {lease.holder}", event.job_id
        elif event.writer != lease.holder and not _may_take(event, lease, evidence):
            yield f"{event.writer} wrote {event.state} under the lease of {lease.holder}", event.job_id
        elif event.state in ("completed", "failed") and not event.recovers:
            yield from _settled_by_its_run(event, evidence)


def _may_take(event: Event, lease: LeaseLife, evidence: Evidence) -> bool:
    """Tell whether others may end this lease: it ran out, its holder was struck, or a later fire replaces it."""
    if event.state == "canceled" and event.schedule_id is not None:
        return True
    ran_out = event.was_lease_until is not None and event.at >= event.was_lease_until - evidence.limits.clock_s
    return event.recovers and (ran_out or was_struck(lease, evidence, before=event.at))


def _settled_by_its_run(event: Event, evidence: Evidence) -> Findings:
    if event.job_type in evidence.types_elsewhere:
        return
    run = evidence.runs_by_lease.get(event.was_lease_id or "")
    if run is None:
        yield f"{event.state} under a lease under which no handler ran", event.job_id
    elif run.ended is None or run.ended > event.at + evidence.limits.clock_s:
        yield f"{event.state} before its handler had ended", event.job_id


def run_without_lease(evidence: Evidence) -> Findings:
    """Every run of a handler has a lease of its own, which the database gave to the same daemon."""
    leases_run = Counter(run.lease_id for run in evidence.runs)
    for run in evidence.runs:
        lease = evidence.leases.get(run.lease_id)
        if lease is None or lease.given.job_id != run.job_id or lease.holder != run.writer:
            yield f"{run.writer} ran it under a lease that it was not given", run.job_id
        elif leases_run[run.lease_id] > 1:
            yield f"one lease was run {leases_run[run.lease_id]} times", run.job_id


def completed_without_its_run(evidence: Evidence) -> Findings:
    """A job that completed has a run that succeeded."""
    succeeded = {run.job_id for run in evidence.runs if run.ending == "ok"}
    succeeded |= {run.job_id for run in evidence.elsewhere if run.ended is not None}
    for event in evidence.events:
        if event.state == "completed" and event.was_state != "completed" and event.job_id not in succeeded:
            yield "completed, and no run of it succeeded", event.job_id


def transaction_not_once(evidence: Evidence) -> Findings:
    """What a handler does in its job's own transaction is there once if the job completed, and else not at all."""
    for job_id, events in evidence.by_job.items():
        if events[0].job_type == evidence.transactional:
            due = int(any(event.state == "completed" for event in events))
            if evidence.committed.get(job_id, 0) != due:
                yield f"its effect is there {evidence.committed.get(job_id, 0)} times, and is due {due} times", job_id


def attempts_out_of_bounds(evidence: Evidence) -> Findings:
    """Attempts are never above the maximum, and rise by one with each lease.

    Jobs are released with them at graceful stops, and if a fault may have kept a lease from being extended in time.
    """
    for event in evidence.events:
        if event.attempts > event.max_attempts and event.change != "delete":
            yield f"attempt {event.attempts} of {event.max_attempts}", event.job_id
        if event.change != "update":
            continue
        step = event.attempts - event.was_attempts
        if event.leases and step != 1:
            yield f"a lease counted {step} attempts", event.job_id
        elif event.gives_back:
            yield from _given_back_rightly(event, evidence)
        elif step < 0 and event.was_state != "failed":
            yield f"attempts fell from {event.was_attempts} to {event.attempts}", event.job_id
        elif event.ends_lease and not event.recovers:
            yield from _used_up_rightly(event, evidence)


def _given_back_rightly(event: Event, evidence: Evidence) -> Findings:
    run = evidence.runs_by_lease.get(event.was_lease_id or "")
    if event.was_attempts - event.attempts != 1:
        yield f"{event.was_attempts - event.attempts} attempts were released at once", event.job_id
    if run is None:
        return
    # A transactional handler that was done may still have lost its commit; `transaction_not_once` judges its effect.
    in_doubt = event.job_type == evidence.transactional and run.ending == "ok"
    ended_before = run.ended is not None and run.ended <= event.at + evidence.limits.clock_s
    if not ended_before or (run.ending not in ("stopped", "error") and not in_doubt):
        yield f"released by {event.writer} although its handler ran ({run.ending})", event.job_id
    elif not _was_asked_to_stop(run.writer, evidence) and not _may_be_given_up(event, evidence):
        yield f"released by {event.writer}, which nobody had asked to stop", event.job_id


def _was_asked_to_stop(daemon: str, evidence: Evidence) -> bool:
    return any(fault.graceful for fault in evidence.faults_by_target.get(daemon, ()))


def _may_be_given_up(event: Event, evidence: Evidence) -> bool:
    """Tell whether a fault may have kept the holder from extending its lease in time, so that it gave the job up."""
    lease = evidence.leases.get(event.was_lease_id or "")
    faults = [*evidence.faults_by_target.get(event.writer, ()), *evidence.outages]
    return lease is not None and any(
        fault.ended >= lease.given.at and fault.began <= event.at + evidence.limits.clock_s for fault in faults
    )


def _used_up_rightly(event: Event, evidence: Evidence) -> Findings:
    if event.job_type in evidence.types_elsewhere:
        return
    run = evidence.runs_by_lease.get(event.was_lease_id or "")
    if event.state == "queued" and (run is None or run.ending == "stopped"):
        yield f"{event.writer} stopped, and used up an attempt", event.job_id


def illegal_transition(evidence: Evidence) -> Findings:
    """Only the transitions of `model.lifecycle` occur; jobs begin queued, and only what has ended is deleted."""
    for event in evidence.events:
        if event.change == "insert":
            legal = event.state == "queued"
        elif event.change == "delete":
            legal = event.was_state in TERMINAL
        else:
            was, state = JobState(event.was_state or ""), JobState(event.state or "")
            legal = was == state or state in TRANSITIONS[was]
        if not legal:
            yield f"{event.was_state or 'nothing'} became {event.state or 'nothing'} by {event.writer}", event.job_id


def unexplained_run(evidence: Evidence) -> Findings:
    """A run whose ending was refused lies within a fault of its daemon, or an outage beyond the lease's margin.

    So without faults there is none, and a fault costs at most the runs that were in flight at it.
    """
    for run in evidence.runs:
        lease = evidence.leases.get(run.lease_id)
        if lease is None or lease.end is None or not lease.end.recovers:
            continue
        if not was_struck(lease, evidence, before=lease.ended):
            yield f"the run by {run.writer} came to nothing although no fault struck it", run.job_id


def was_struck(lease: LeaseLife, evidence: Evidence, *, before: float) -> bool:
    """Tell whether a fault may have cost a lease: one of its holder, or an outage of the database beyond its margin."""
    limits = evidence.limits
    mine = evidence.faults_by_target.get(lease.holder, ())
    if any((fault.ends_target or fault.ended >= lease.given.at) and fault.began <= before for fault in mine):
        return True
    return any(
        fault.ended - fault.began >= limits.margin_s
        and fault.ended + limits.lease_s >= lease.given.at
        and fault.began <= before
        for fault in evidence.outages
    )


def ran_before_due(evidence: Evidence) -> Findings:
    """Nothing is leased before its `run_at`, by the database's clock."""
    for event in evidence.events:
        if event.leases and event.at < event.run_at - 0.001:
            yield f"leased {event.run_at - event.at:.3f} s before it was due", event.job_id


def never_ended(evidence: Evidence) -> Findings:
    """Once faults stop, every job ends."""
    for job_id, events in evidence.by_job.items():
        last = events[-1]
        if last.change != "delete" and last.state not in TERMINAL:
            yield f"still {last.state} at the end, attempt {last.attempts} of {last.max_attempts}", job_id


def failed_early(evidence: Evidence) -> Findings:
    """A job fails by its handler's word or with its attempts or crashes used up, never sooner."""
    for event in evidence.events:
        if event.state == "failed" and event.recovers and event.attempts < event.max_attempts:
            yield f"failed by a lost lease at attempt {event.attempts} of {event.max_attempts}", event.job_id


def acknowledged_cancel_undone(evidence: Evidence) -> Findings:
    """A job whose canceling was acknowledged is and stays canceled."""
    for operation in evidence.operations:
        if operation.kind == "cancel" and operation.answer == "ok":
            last = evidence.by_job[operation.job_id or ""][-1]
            if last.change != "delete" and last.state != "canceled":
                yield f"canceled, and {last.state} at the end", operation.job_id
