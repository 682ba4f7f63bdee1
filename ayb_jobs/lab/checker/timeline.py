"""What happened to one job, in order: what a person reads first when an invariant is broken."""

from collections.abc import Iterator

from ayb_jobs.lab.checker.evidence import Event, Evidence

# Around a job's own events, faults are of interest that struck this long before or after.
NEAR_S = 5.0


def timeline(evidence: Evidence, job_id: str) -> list[str]:
    """Return a line for each thing that is known of a job, with the faults around it, in the order of time."""
    lines = sorted(_lines(evidence, job_id))
    if not lines:
        return []
    start = lines[0][0]
    return [f"{at - start:+9.3f} s  {text}" for at, text in lines]


def _lines(evidence: Evidence, job_id: str) -> Iterator[tuple[float, str]]:
    yield from ((event.at, f"database  {_wording(event)}") for event in evidence.by_job.get(job_id, ()))
    yield from _of_handlers(evidence, job_id)
    yield from _of_clients(evidence, job_id)
    yield from _of_faults(evidence, job_id)


def _of_handlers(evidence: Evidence, job_id: str) -> Iterator[tuple[float, str]]:
    for run in evidence.runs:
        if run.job_id == job_id:
            yield run.started, f"handler   attempt {run.attempt} starts on {run.writer}, lease {run.lease_id[:8]}"
            if run.ended is not None:
                yield run.ended, f"handler   attempt {run.attempt} ends: {run.ending}, lease {run.lease_id[:8]}"


def _of_clients(evidence: Evidence, job_id: str) -> Iterator[tuple[float, str]]:
    for operation in evidence.operations:
        if operation.job_id == job_id:
            yield operation.asked, f"client    asks to {operation.kind}"
            if operation.answered is not None:
                yield operation.answered, f"client    is told {operation.answer}"


def _of_faults(evidence: Evidence, job_id: str) -> Iterator[tuple[float, str]]:
    events = evidence.by_job.get(job_id, ())
    holders = {event.writer for event in events}
    for fault in evidence.faults if events else ():
        near = events[0].at - NEAR_S <= fault.ended and fault.began <= events[-1].at + NEAR_S
        if near and (fault.on_database or fault.target in holders):
            yield fault.began, f"fault     {fault.kind} of {fault.target}, for {fault.ended - fault.began:.3f} s"


def _wording(event: Event) -> str:
    if event.change != "update":
        return f"{event.change} {event.state or event.was_state} by {event.writer}"
    if event.was_state == event.state:
        return f"{event.state}, changed by {event.writer}, lease {(event.lease_id or 'none')[:8]}"
    lease = event.lease_id or event.was_lease_id or ""
    return (
        f"{event.was_state} -> {event.state} by {event.writer}, attempt {event.attempts} of {event.max_attempts},"
        f" lease {lease[:8]}"
    )
