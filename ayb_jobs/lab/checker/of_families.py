"""The invariants of jobs that wait for others, one function each; its name is the invariant's name."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from ayb_jobs.lab.checker.evidence import Event, Evidence, Findings
from ayb_jobs.lab.checker.flow import Dependency


def child_before_parent(evidence: Evidence) -> Findings:
    """No job is leased before each job that it waits for has ended as its rule says, or is gone."""
    for child_id, edges in _edges(evidence).items():
        leased = next((event for event in evidence.by_job.get(child_id, ()) if event.leases), None)
        if leased is None:
            continue
        for edge in edges:
            if not any(event.seq < leased.seq for event in _ends(evidence, edge)):
                yield f"leased by {leased.writer} before job {edge.parent_id} had ended", child_id


def child_stuck(evidence: Evidence) -> Findings:
    """Once faults stop, no job waits for others that have all ended."""
    for child_id, edges in _edges(evidence).items():
        events = evidence.by_job.get(child_id)
        if not events or events[-1].change == "delete" or events[-1].state != "queued" or events[-1].attempts:
            continue
        if all(_lets_go(evidence, edge) for edge in edges):
            yield f"it still waits, although all {len(edges)} that it waits for have ended", child_id


def child_not_held(evidence: Evidence) -> Findings:
    """A job is canceled for a parent that failed or was canceled only if its rule says so."""
    asked = {op.job_id for op in evidence.operations if op.kind == "cancel" and op.answer != "fail"}
    for child_id, edges in _edges(evidence).items():
        events = evidence.by_job.get(child_id, ())
        canceled = next((e for e in events if e.state == "canceled" and e.was_state == "queued"), None)
        if canceled is None or child_id in asked:
            continue
        if not any(edge.rule == "cancel" and _has_failed(evidence, edge.parent_id) for edge in edges):
            yield f"canceled by {canceled.writer}, though no parent of the rule cancel failed", child_id


def _has_failed(evidence: Evidence, job_id: str) -> bool:
    """Tell whether a job ever failed or was canceled; a failed one may have been retried since."""
    return any(event.state in {"failed", "canceled"} for event in evidence.by_job.get(job_id, ()))


def _lets_go(evidence: Evidence, edge: Dependency) -> bool:
    holding = {"failed", "canceled"} if edge.rule == "hold" else set[str]()
    return _final(evidence, edge.parent_id) not in {"unfinished", *holding}


def _edges(evidence: Evidence) -> Mapping[str, Sequence[Dependency]]:
    found: defaultdict[str, list[Dependency]] = defaultdict(list)
    for edge in evidence.dependencies:
        found[edge.child_id].append(edge)
    return found


def _ends(evidence: Evidence, edge: Dependency) -> list[Event]:
    """Return the changes by which a parent let its child go."""
    states = {"completed", "failed", "canceled"} if edge.rule == "run" else {"completed"}
    return [
        event
        for event in evidence.by_job.get(edge.parent_id, ())
        if event.change == "delete" or (event.state in states and event.was_state != event.state)
    ]


def _final(evidence: Evidence, job_id: str) -> str:
    events = evidence.by_job.get(job_id)
    if not events or events[-1].change == "delete":
        return "gone"
    state = events[-1].state or "gone"
    return "unfinished" if state in {"queued", "running"} else state
