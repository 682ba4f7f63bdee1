"""`ayb-jobs jobs show`."""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import click

from ayb_jobs.cli import output
from ayb_jobs.cli.backend.backend import open_jobs
from ayb_jobs.cli.commands.batches.commands import progress_words
from ayb_jobs.cli.commands.jobs.printing import STATE_STYLES, print_jobs
from ayb_jobs.cli.options import Options, backend_options, pass_options
from ayb_jobs.cli.output import Column, ago, decoded, duration
from ayb_jobs.cli.values import LIMIT
from ayb_jobs.model.unique import UNIQUE_WORDS

MINUTE_S = 60
WHENS = {
    "Created": "createdAt",
    "Due": "runAt",
    "Scheduled for": "scheduledFor",
    "Last run": "lastRunAt",
    "Leased until": "leaseUntil",
    "Completed": "completedAt",
    "Cancel asked": "cancelRequestedAt",
    "Cancel heard": "cancelHeardAt",
    "Canceled": "canceledAt",
}
DETAILS = {"Worker": "workerId", "Schedule": "scheduleId", "Idempotency key": "idempotencyKey"}


@click.command
@click.argument("job_id", metavar="JOB-ID")
@click.option("--limit", type=LIMIT, default=20, show_default=True, help="At most so many attempts.")
@backend_options
@pass_options
def show(options: Options, job_id: str, limit: int) -> None:
    """Show one job and its attempts, the newest first. With --json, the attempts are under `executions`."""
    output.must_print()
    with open_jobs(options) as backend:
        job_text = backend.get_job(job_id)
        executions_text = backend.list_executions(job_id, limit=limit)
        now = None if options.json or options.output == "csv" else backend.now()
        when = output.when_for(options, backend)
    executions = decoded(executions_text)["items"]
    if options.json:  # the job as it stands, since it may hold what Python cannot decode
        output.print_json(f'{job_text[:-1]},"executions":{json.dumps(executions)}}}')
        return
    if now is None:
        print_jobs(options, [decoded(job_text)], when)
        return
    print_job(decoded(job_text), now)
    click.echo()
    if executions:
        print_executions(options, executions, when)
    else:
        click.echo("No attempt is on record.")


def print_job(job: dict[str, Any], now: datetime) -> None:
    """Print all that is known of a job."""
    whens = {name: job.get(key) for name, key in WHENS.items()}
    whens["Due"] = job.get("blockedRunAt") or whens["Due"]
    output.print_fields(
        {
            "Id": job["id"],
            "Type": job["type"],
            "State": job["state"],
            "Queue": f"{job['queue']}, priority {job['priority']}",
            **({"Limit": limit_of(job)} if job.get("limit") else {}),
            **({"Unique": UNIQUE_WORDS[job["uniqueScope"]]} if job.get("uniqueScope") else {}),
            "Attempts": attempts_words(job),
            **{name: f"{text}  ({ago(text, now)})" for name, text in whens.items() if text},
            **({"Waits": job["waitReason"]} if job.get("waitReason") else {}),
            **({"Batch": batch_of(job)} if job.get("batchId") else {}),
            **({"Depends on": relatives(job, "dependsOn")} if job.get("dependsOn") else {}),
            **({"Dependents": relatives(job, "dependents")} if job.get("dependents") else {}),
            **{name: str(job[key]) for name, key in DETAILS.items() if job.get(key) is not None},
            "Payload": json.dumps(job["payload"], indent=2, ensure_ascii=False),
            **({"Progress": json.dumps(job["progress"], ensure_ascii=False)} if "progress" in job else {}),
            **{f"Step {step['name']}": json.dumps(step["result"], ensure_ascii=False) for step in job.get("steps", ())},
            **({"Result": json.dumps(job["result"], indent=2, ensure_ascii=False)} if "result" in job else {}),
            **({"Last error": job["lastError"]} if job.get("lastError") else {}),
        },
        {"State": STATE_STYLES[job["state"]]},
    )


def relatives(job: dict[str, Any], side: str) -> str:
    """Return a job's parents or children, one a line, each with its state, and how many more there are."""
    lines = [f"{one['id']}  {one['state']}" for one in job[side]]
    more = job[f"{side}Count"] - len(lines)
    return "\n".join([*lines, f"and {more:,} more"] if more else lines)


def batch_of(job: dict[str, Any]) -> str:
    """Return a job's batch, and how far that is."""
    progress = job.get("batchProgress")
    return f"{job['batchId']}, {progress_words(progress)}" if progress else str(job["batchId"])


def limit_of(job: dict[str, Any]) -> str:
    """Return a job's limit, and its key if it has one."""
    return f"{job['limit']}, key {job['limitKey']}" if job.get("limitKey") else str(job["limit"])


def attempts_words(job: dict[str, Any]) -> str:
    """Return how many attempts a job has had, and how many of them lost their worker."""
    words = f"{job['attempts']} of {job['maxAttempts']}"
    return f"{words}, {job['crashes']} lost with their worker" if job["crashes"] else words


def print_executions(options: Options, executions: list[dict[str, Any]], when: Callable[[str], str]) -> None:
    """Print attempts as a table."""
    columns = [
        Column(title="ATTEMPT", right=True, key=True),
        Column(title="OUTCOME"),
        Column(title="STARTED"),
        Column(title="TOOK", right=True),
        Column(title="RECORDS", right=True),
        Column(title="WORKER"),
        Column(title="ERROR", flexible=True),
    ]
    rows = [
        [
            str(execution["attempt"]),
            execution.get("outcome", "running"),
            when(execution["startedAt"]),
            took(execution),
            str(execution.get("recordsProcessed", "")),
            execution.get("workerId", ""),
            execution.get("error", ""),
        ]
        for execution in executions
    ]
    output.print_table(columns, rows, form=options.output)


def took(execution: dict[str, Any]) -> str:
    """Return how long an attempt took."""
    if "endedAt" not in execution:
        return ""
    seconds = (output.instant(execution["endedAt"]) - output.instant(execution["startedAt"])).total_seconds()
    return (
        f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s" if seconds < MINUTE_S else duration(seconds)
    )
