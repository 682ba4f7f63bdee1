"""The invariants of batches, one function each; its name is the invariant's name."""

from collections import Counter

from ayb_jobs.lab.checker.evidence import Evidence, Findings
from ayb_jobs.lab.checker.flow import BatchLife

ENDED = {"completed", "failed", "canceled"}


def callback_not_once(evidence: Evidence) -> Findings:
    """Each event of a batch is called once, once all members have ended, and it is the event that they made true."""
    for batch in evidence.batches:
        if batch.callbacks:
            yield from _wrong_calls(evidence, batch)
        elif batch.is_sealed and _states(evidence, batch, before=float("inf")) <= ENDED:
            yield f"batch {batch.id} has ended, and none of its callbacks was enqueued", None


def _wrong_calls(evidence: Evidence, batch: BatchLife) -> Findings:
    for event, times in Counter(event for event, _ in batch.callbacks).items():
        if times > 1:
            yield f"batch {batch.id} called {times} times that it is {event}", None
    called_at = min(evidence.by_job[job_id][0].seq for _, job_id in batch.callbacks)
    states = _states(evidence, batch, before=called_at)
    if not states <= ENDED:
        yield f"batch {batch.id} called while members were {', '.join(sorted(states - ENDED))}", batch.callbacks[0][1]
        return
    true = {"done", "success" if states <= {"completed"} else "failure"}
    called = {event for event, _ in batch.callbacks}
    if called != true:
        yield f"batch {batch.id} called {sorted(called)} where {sorted(true)} is true", batch.callbacks[0][1]


def _states(evidence: Evidence, batch: BatchLife, *, before: float) -> set[str]:
    """Return in which states the members were before an event; one that had not been made yet was `not made`."""
    found = set()
    for member in batch.members:
        events = [event for event in evidence.by_job.get(member, ()) if event.seq < before]
        if not events:
            found.add("not made")
        elif events[-1].change != "delete":
            found.add(str(events[-1].state))
    return found
