"""What a torture run leaves for people and for programs."""

import json
from collections.abc import Iterator
from dataclasses import asdict

from ayb_jobs.lab.checker import Figures, timeline
from ayb_jobs.lab.torture.running import Torture

SHOWN = 20
TIMELINES = 3


def as_json(result: Torture) -> str:
    """Return the totals as one JSON object."""
    numbers = asdict(result.figures)
    return json.dumps(
        {
            "seed": result.seed,
            "passed": result.passed,
            **numbers,
            "violations": len(result.violations),
            "broken": sorted({violation.invariant for violation in result.violations}),
            "left_out": dict(result.left_out),
            "folder": str(result.folder) if result.violations else None,
        }
    )


def as_line(result: Torture) -> str:
    """Return the totals as one line."""
    numbers = result.figures
    faults = " ".join(_faults(numbers)) or "none"
    recovery = "" if numbers.recovery_p99_s is None else f"  recovery p99 {numbers.recovery_p99_s:.2f} s"
    verdict = "passed" if result.passed else "FAILED"
    return (
        f"{verdict}: {numbers.jobs} jobs, {numbers.runs} runs, {numbers.lost} lost, {numbers.stale_accepted} stale writes"
        f" accepted, {numbers.violations} violations{recovery}  faults: {faults}  seed {result.seed}"
    )


def _faults(numbers: Figures) -> Iterator[str]:
    for kind, count in numbers.faults.items():
        hit = f" ({numbers.hit_running[kind]} amid jobs)" if kind in numbers.hit_running else ""
        backends = f" ({numbers.backends} connections)" if kind == "terminate" else ""
        yield f"{kind}={count}{hit}{backends}"


def failure(result: Torture) -> list[str]:
    """Return the violations, and the timelines of the first jobs that show them, for a run that failed."""
    lines = [
        f"{violation.invariant}: {violation.message}" + (f" (job {violation.job_id})" if violation.job_id else "")
        for violation in result.violations[:SHOWN]
    ]
    if len(result.violations) > SHOWN:
        lines.append(f"… and {len(result.violations) - SHOWN} more")
    jobs = dict.fromkeys(violation.job_id for violation in result.violations if violation.job_id)
    for job_id in list(jobs)[:TIMELINES]:
        lines += ["", f"job {job_id}", *timeline(result.evidence, job_id)]
    return [*lines, "", f"the logs are in {result.folder}"]


def write_logs(result: Torture) -> None:
    """Write what the database and the nemesis saw beside the other logs; those were written as things happened."""
    with (result.folder / "events.jsonl").open("w") as file:
        for event in result.evidence.events:
            file.write(json.dumps(event._asdict()) + "\n")
    with (result.folder / "faults.jsonl").open("w") as file:
        for fault in result.evidence.faults:
            file.write(json.dumps(fault._asdict()) + "\n")
