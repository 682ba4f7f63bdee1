"""`ayb-jobs jobs list`."""

from typing import Any

import click

from ayb_jobs.cli import output
from ayb_jobs.cli.backend.backend import open_jobs
from ayb_jobs.cli.commands.jobs.printing import STATE_STYLES, STATES
from ayb_jobs.cli.options import Options, backend_options, pass_options
from ayb_jobs.cli.output import Column, ago, decoded
from ayb_jobs.cli.values import MAX_LIMIT, WholeNumber


@click.command("list")
@click.option("--state", type=click.Choice(STATES), help="Only jobs in this state.")
@click.option("--type", "type_", metavar="TYPE", help="Only jobs of this type.")
@click.option("--queue", metavar="QUEUE", help="Only jobs in this queue.")
@click.option("--limit", type=WholeNumber(1, MAX_LIMIT), default=50, show_default=True, help="At most so many.")
@backend_options
@pass_options
def list_(options: Options, state: str | None, type_: str | None, queue: str | None, limit: int) -> None:
    """List jobs, the newest first."""
    with open_jobs(options) as backend:
        text = backend.list_jobs(state=state, type=type_, queue=queue, limit=limit)
    if options.json:
        output.print_json(text)
        return
    found = decoded(text)["items"]
    if not found:
        output.say(nothing(filtered=bool(state or type_ or queue)))
        return
    print_jobs(found)
    if len(found) == limit:
        output.say(f"The newest {limit}; --limit shows more, --state and --type fewer.")


def nothing(*, filtered: bool) -> str:
    """Say what to do if no job was found."""
    if filtered:
        return "No such jobs; leave out a filter to see more."
    return "There are no jobs yet. Make one with: ayb-jobs jobs enqueue TYPE"


def print_jobs(found: list[dict[str, Any]]) -> None:
    """Print jobs as a table, with their queue if one is in another queue than `default`."""
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
