"""How the commands about jobs print."""

from collections.abc import Callable
from typing import Any

import click

from ayb_jobs.cli import output
from ayb_jobs.cli.options import Options
from ayb_jobs.cli.output import Column, decoded

STATE_STYLES = {
    "queued": "cyan",
    "running": "blue",
    "completed": "green",
    "failed": "red",
    "canceled": "yellow",
}
STATES = list(STATE_STYLES)


def print_change(options: Options, text: str, words: str) -> None:
    """Print what became of a job; of one that may not be read, what is known of it."""
    if options.json:
        output.print_json(text)
        return
    job = decoded(text)
    if options.output == "csv" and "createdAt" not in job:
        columns = [Column(title="ID", key=True), Column(title="STATE"), Column(title="TYPE")]
        output.print_table(columns, [[job["id"], job.get("state", ""), job["type"]]], form=options.output)
    elif options.output == "csv":
        print_jobs(options, [job], str)
    elif "state" not in job:
        click.echo(f"job {job['id']} has the key already")
    else:
        click.echo(f"job {words.format(id=job['id'], state=job['state'])}")


def due_words(job: dict[str, Any], when: Callable[[str], str]) -> str:
    """Return when a queued job is due, or that it is paused or blocked."""
    if job["state"] != "queued":
        return ""
    if job.get("blockedRunAt"):
        return "blocked"
    return "paused" if job.get("isPaused") else when(job["runAt"])


def print_jobs(options: Options, found: list[dict[str, Any]], when: Callable[[str], str]) -> None:
    """Print jobs as a table, with their queue if one is in another queue than `default`; `when` words instants."""
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
    rows = [
        [
            job["id"],
            job["state"],
            job["type"],
            *([job["queue"]] if several_queues else []),
            f"{job['attempts']}/{job['maxAttempts']}",
            when(job["createdAt"]),
            due_words(job, when),
            job.get("lastError", ""),
        ]
        for job in found
    ]
    output.print_table(columns, rows, [STATE_STYLES[job["state"]] for job in found], form=options.output)
