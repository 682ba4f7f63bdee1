"""The invariants of jobs that wait for others, one function each; its name is the invariant's name."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from ayb_jobs.lab.checker.evidence import Dependency, Event, Evidence, Findings


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
        if all(_final(evidence, edge.parent_id) != "unfinished" for edge in edges):
            yield f"it still waits, although all {len(edges)} that it waits for have ended", child_id


def _edges(evidence: Evidence) -> Mapping[str, Sequence[Dependency]]:
    found: defaultdict[str, list[Dependency]] = defaultdict(list)
    for edge in evidence.dependencies:
        found[edge.child_id].append(edge)
    return found


def _ends(evidence: Evidence, edge: Dependency) -> list[Event]:
    """Return the changes by which a parent let its child go."""
    states = {"completed"} if edge.rule == "cancel" else {"completed", "failed", "canceled"}
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
