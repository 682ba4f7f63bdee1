"""`ayb-jobs batches list` and `show`."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import click

from ayb_jobs.cli import output
from ayb_jobs.cli.backend.backend import open_batches
from ayb_jobs.cli.options import Options, backend_options, pass_options
from ayb_jobs.cli.output import Column, ago, decoded
from ayb_jobs.cli.values import LIMIT
from ayb_jobs.model.batches import BatchState

STATE_STYLES = {"open": "cyan", "running": "blue", "succeeded": "green", "failed": "red"}
WHENS = {"Created": "createdAt", "Sealed": "sealedAt", "Canceled": "canceledAt", "Done": "doneAt"}


@click.command("list")
@click.option("--state", type=click.Choice([state.value for state in BatchState]), help="Only batches in this state.")
@click.option("--limit", type=LIMIT, default=50, show_default=True, help="At most so many.")
@backend_options
@pass_options
def list_(options: Options, state: str | None, limit: int) -> None:
    """List batches, the newest first: how many of their jobs have ended, and how."""
    output.must_print()
    with open_batches(options) as backend:
        text = backend.list_batches(state=state, limit=limit)
        when = output.when_for(options, backend)
    if options.json:
        output.print_page(options, text)
        return
    found = decoded(text)["items"]
    if not found and options.output != "csv":
        output.say("No such batches." if state else "There are no batches yet.")
        return
    print_batches(options, found, when)


@click.command("show")
@click.argument("batch_id", metavar="BATCH-ID")
@backend_options
@pass_options
def show(options: Options, batch_id: str) -> None:
    """Show one batch: how many of its jobs have ended, what it waits for, and what was called."""
    output.must_print()
    with open_batches(options) as backend:
        text = backend.get_batch(batch_id)
        now = None if options.json or options.output == "csv" else backend.now()
    if options.json:
        output.print_json(text)
        return
    if now is None:
        print_batches(options, [decoded(text)], str)
        return
    print_batch(decoded(text), now)


def print_batch(batch: dict[str, Any], now: datetime) -> None:
    """Print all that is known of a batch."""
    failure = batch.get("firstFailure")
    output.print_fields(
        {
            "Id": batch["id"],
            **({"Description": batch["description"]} if batch.get("description") else {}),
            "State": batch["state"],
            "Jobs": progress_words(batch["progress"]),
            **{name: f"{batch[key]}  ({ago(batch[key], now)})" for name, key in WHENS.items() if batch.get(key)},
            **({"Waits for": batch["waitsFor"]} if batch.get("waitsFor") else {}),
            **({"First failure": f"{failure['jobId']}  {output.one_line(failure['error'])}"} if failure else {}),
            **{f"On {each['event']}": called_words(each) for each in batch["callbacks"]},
        },
        {"State": STATE_STYLES[batch["state"]]},
    )


def progress_words(progress: dict[str, Any]) -> str:
    """Say how many members have ended, and how."""
    ended = progress["total"] - progress["queued"] - progress["running"]
    percent = f" ({progress['percent']} %)" if "percent" in progress else ""
    words = f"{output.so_many(ended, progress)} of {output.so_many(progress['total'], progress)} ended{percent}"
    names = [name for name in ("failed", "canceled", "running") if progress[name]]
    others = ", ".join(f"{output.so_many(progress[name], progress)} {name}" for name in names)
    return f"{words}: {others}" if others else words


def called_words(callback: dict[str, Any]) -> str:
    """Say what an event enqueues, and how far that is."""
    if "state" not in callback:
        return str(callback["type"])
    return f"{callback['type']}, job {callback['jobId']}, {callback['state']}"


def print_batches(options: Options, found: list[dict[str, Any]], when: Callable[[str], str]) -> None:
    """Print batches as a table."""
    columns = [
        Column(title="ID", key=True),
        Column(title="STATE"),
        Column(title="JOBS", right=True),
        Column(title="ENDED", right=True),
        Column(title="FAILED", right=True),
        Column(title="CANCELED", right=True),
        Column(title="CREATED"),
        Column(title="DESCRIPTION", flexible=True),
    ]
    rows = [
        [
            one["id"],
            one["state"],
            output.so_many(one["progress"]["total"], one["progress"]),
            f"{one['progress']['percent']} %" if "percent" in one["progress"] else "",
            output.so_many(one["progress"]["failed"], one["progress"]),
            output.so_many(one["progress"]["canceled"], one["progress"]),
            when(one["createdAt"]),
            one.get("description", ""),
        ]
        for one in found
    ]
    output.print_table(columns, rows, [STATE_STYLES[one["state"]] for one in found], form=options.output)
