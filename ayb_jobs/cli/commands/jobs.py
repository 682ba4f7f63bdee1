"""`ayb-jobs jobs`: look at jobs, enqueue, retry and cancel them."""

import json
from typing import Any

import click

from ayb_jobs.cli import output
from ayb_jobs.cli.backend.backend import open_jobs
from ayb_jobs.cli.options import Options, door_options, pass_options
from ayb_jobs.cli.output import STATE_STYLES, Column, ago, decoded, duration
from ayb_jobs.cli.values import DURATION, INSTANT, JSON, MAX_LIMIT, WholeNumber
from ayb_jobs.cli.warnings import warning_of_unknown_type

STATES = ["queued", "running", "completed", "failed", "canceled"]


@click.group(short_help="Look at jobs; enqueue, retry and cancel them.")
@door_options
def jobs() -> None:
    """Look at jobs; enqueue, retry and cancel them."""


@jobs.command("list", short_help="List jobs, the newest first.")
@click.option("--state", type=click.Choice(STATES), help="Only jobs in this state.")
@click.option("--type", "type_", metavar="TYPE", help="Only jobs of this type.")
@click.option("--queue", metavar="QUEUE", help="Only jobs in this queue.")
@click.option("--limit", type=WholeNumber(1, MAX_LIMIT), default=50, show_default=True, help="At most so many.")
@door_options
@pass_options
def list_(options: Options, state: str | None, type_: str | None, queue: str | None, limit: int) -> None:
    """List jobs, the newest first."""
    with open_jobs(options) as door:
        text = door.list_jobs(state=state, type=type_, queue=queue, limit=limit)
    if options.json:
        output.print_json(text)
        return
    found = decoded(text)["items"]
    if not found:
        filtered = state or type_ or queue
        output.say(
            "No such jobs; leave out a filter to see more."
            if filtered
            else "There are no jobs yet. Make one with: ayb-jobs jobs enqueue TYPE"
        )
        return
    print_jobs(found)
    if len(found) == limit:
        output.say(f"The newest {limit}; --limit shows more, --state and --type fewer.")


def print_jobs(found: list[dict[str, Any]]) -> None:
    """Print jobs as a table; their queue only where one is not in the default queue."""
    several_queues = any(job["queue"] != "default" for job in found)
    columns = [
        Column(title="ID", key=True),
        Column(title="STATE"),
        Column(title="TYPE"),
        *([Column(title="QUEUE")] if several_queues else []),
        Column(title="ATTEMPTS", right=True),
        Column(title="CREATED"),
        Column(title="DUE"),
        Column(title="LAST ERROR", flexible=True),
    ]
    when = ago if output.is_terminal() else str
    rows = [
        [
            job["id"],
            job["state"],
            job["type"],
            *([job["queue"]] if several_queues else []),
            f"{job['attempts']}/{job['maxAttempts']}",
            when(job["createdAt"]),
            when(job["runAt"]) if job["state"] == "queued" else "",
            job.get("lastError", ""),
        ]
        for job in found
    ]
    output.print_table(columns, rows, [STATE_STYLES[job["state"]] for job in found])


@jobs.command(short_help="Show one job and its attempts.")
@click.argument("job_id", metavar="JOB-ID")
@click.option(
    "--limit", type=WholeNumber(1, MAX_LIMIT), default=20, show_default=True, help="At most so many attempts."
)
@door_options
@pass_options
def show(options: Options, job_id: str, limit: int) -> None:
    """Show one job and its attempts, the newest first. With --json, the attempts are under `executions`."""
    with open_jobs(options) as door:
        job_text = door.get_job(job_id)
        executions_text = door.list_executions(job_id, limit=limit)
    executions = decoded(executions_text)["items"]
    if options.json:  # the job as it stands, since it may hold what Python cannot decode
        output.print_json(f'{job_text[:-1]},"executions":{json.dumps(executions)}}}')
        return
    print_job(decoded(job_text))
    click.echo()
    if executions:
        print_executions(executions)
    else:
        click.echo("No attempt is on record.")


def print_job(job: dict[str, Any]) -> None:
    """Print all that is known of a job."""
    whens = {name: job.get(key) for name, key in WHENS.items()}
    output.print_fields(
        {
            "Id": job["id"],
            "Type": job["type"],
            "State": job["state"],
            "Queue": f"{job['queue']}, priority {job['priority']}",
            "Attempts": attempts_words(job),
            **{name: f"{text}  ({ago(text)})" for name, text in whens.items() if text},
            **({"Waits": job["waitReason"]} if job.get("waitReason") else {}),
            **{name: str(job[key]) for name, key in DETAILS.items() if job.get(key) is not None},
            "Payload": json.dumps(job["payload"], indent=2, ensure_ascii=False),
            **({"Progress": json.dumps(job["progress"], ensure_ascii=False)} if "progress" in job else {}),
            **({"Last error": job["lastError"]} if job.get("lastError") else {}),
        },
        {"State": STATE_STYLES[job["state"]]},
    )


WHENS = {
    "Created": "createdAt",
    "Due": "runAt",
    "Scheduled for": "scheduledFor",
    "Last run": "lastRunAt",
    "Leased until": "leaseUntil",
    "Completed": "completedAt",
    "Canceled": "canceledAt",
}
MINUTE_S = 60
DETAILS = {"Worker": "workerId", "Schedule": "scheduleId", "Idempotency key": "idempotencyKey"}


def attempts_words(job: dict[str, Any]) -> str:
    """Return how many attempts a job has had, and how many of them lost their worker."""
    words = f"{job['attempts']} of {job['maxAttempts']}"
    return f"{words}, {job['crashes']} lost with their worker" if job["crashes"] else words


def print_executions(executions: list[dict[str, Any]]) -> None:
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
    when = ago if output.is_terminal() else str
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
    output.print_table(columns, rows)


def took(execution: dict[str, Any]) -> str:
    """Return how long an attempt took."""
    if "endedAt" not in execution:
        return ""
    seconds = (output.instant(execution["endedAt"]) - output.instant(execution["startedAt"])).total_seconds()
    return (
        f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s" if seconds < MINUTE_S else duration(seconds)
    )


@jobs.command(short_help="Count jobs by state.")
@door_options
@pass_options
def stats(options: Options) -> None:
    """Count jobs by state; tell how long the oldest due job has waited, and which ones no live daemon can run."""
    with open_jobs(options) as door:
        text = door.job_stats()
    if options.json:
        output.print_json(text)
        return
    counts = decoded(text)
    estimated = counts.get("estimated", [])
    rows = [[state, f"{'about ' if state in estimated else ''}{counts[state]:,}"] for state in STATES]
    output.print_table(
        [Column(title="STATE", key=True), Column(title="JOBS", right=True, key=True)],
        rows,
        [STATE_STYLES[state] for state in STATES],
    )
    oldest_s = counts.get("oldestQueuedAgeSec")
    if oldest_s is not None:
        output.say(f"The oldest due job has waited for {duration(oldest_s)}.")
    if unclaimable := counts.get("unclaimable"):
        listed = ", ".join(f"{output.one_line(name)} {count:,}" for name, count in unclaimable.items())
        output.say(f"Due, and no live daemon can run them: {listed}.")


@jobs.command(short_help="Put a job into the queue.")
@click.argument("type_", metavar="TYPE")
@click.option(
    "--payload", type=JSON, metavar="JSON", help="What the job is given: JSON, @FILE, or - for standard input."
)
@click.option("--queue", metavar="QUEUE", help="The queue; `default` where not given.")
@click.option("--priority", type=WholeNumber(1, 4), help="1 goes first; 2 where not given.")
@click.option("--max-attempts", type=WholeNumber(1), help="How often it may be tried.")
@click.option("--in", "delay_s", type=DURATION, metavar="TIME", help="Not before so long from now: 90s, 15m, 2h, 1d.")
@click.option("--at", "run_at", type=INSTANT, metavar="WHEN", help="Not before then: 2030-01-31T09:00:00+01:00.")
@click.option("--idempotency-key", metavar="KEY", help="Of all jobs with the same key, only the first is made.")
@door_options
@pass_options
def enqueue(options: Options, /, type_: str, **asked: Any) -> None:
    """Put a job of TYPE into the queue, due now unless --in or --at says otherwise."""
    names = {
        "delay_s": "delaySec",
        "run_at": "runAt",
        "max_attempts": "maxAttempts",
        "idempotency_key": "idempotencyKey",
    }
    body = {"type": type_} | {names.get(key, key): value for key, value in asked.items() if value is not None}
    with open_jobs(options) as door, warning_of_unknown_type(door, type_):
        text = door.enqueue(body)
    print_change(options, text, "{id} is {state}")


@jobs.command(short_help="Queue a failed job again.")
@click.argument("job_id", metavar="JOB-ID")
@door_options
@pass_options
def retry(options: Options, job_id: str) -> None:
    """Queue a failed job again, due now, with all its attempts."""
    with open_jobs(options) as door:
        text = door.retry_job(job_id)
    print_change(options, text, "{id} is {state} again")


@jobs.command(short_help="Cancel a queued job.")
@click.argument("job_id", metavar="JOB-ID")
@door_options
@pass_options
def cancel(options: Options, job_id: str) -> None:
    """Cancel a queued job: it will not run."""
    with open_jobs(options) as door:
        text = door.cancel_job(job_id)
    print_change(options, text, "{id} is {state}")


def print_change(options: Options, text: str, words: str) -> None:
    """Print what became of a job."""
    if options.json:
        output.print_json(text)
    else:
        job = decoded(text)
        click.echo(f"job {words.format(id=job['id'], state=job['state'])}")
