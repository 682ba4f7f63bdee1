"""`ayb-jobs batches create`, `seal` and `cancel`."""

from contextlib import ExitStack
from typing import Any

import click

from ayb_jobs.cli import output
from ayb_jobs.cli.backend.backend import open_batches
from ayb_jobs.cli.commands.batches.commands import print_batches
from ayb_jobs.cli.options import Options, backend_options, pass_options
from ayb_jobs.cli.output import decoded
from ayb_jobs.cli.warnings import warning_of_unknown_type, warning_of_unserved_queue
from ayb_jobs.errors import InvalidInput
from ayb_jobs.model.digits import exact

CALLBACK = "TYPE|JSON"


@click.command("create")
@click.option("--on-success", metavar=CALLBACK, help="Enqueued once all its jobs have completed.")
@click.option("--on-failure", metavar=CALLBACK, help="Enqueued once all have ended, if one failed or was canceled.")
@click.option("--on-done", metavar=CALLBACK, help="Enqueued in either case.")
@click.option("--description", metavar="TEXT", help="What it is for, as lists show it.")
@backend_options
@pass_options
def create(options: Options, /, description: str | None, **callbacks: str | None) -> None:
    """Make a batch that is open: `jobs enqueue --batch` adds to it, and `batches seal` lets it end.

    A callback is a job type, or a JSON object with `type`, `payload`, `queue`, `priority` and `maxAttempts`.
    """
    asked = {name: callback_of(name, text) for name, text in callbacks.items() if text is not None}
    body = {f"on{name.removeprefix('on_').capitalize()}": value for name, value in asked.items()} | {"open": True}
    with ExitStack() as stack:
        backend = stack.enter_context(open_batches(options))
        for callback in asked.values():
            stack.enter_context(warning_of_unknown_type(backend, str(callback["type"])))
            stack.enter_context(warning_of_unserved_queue(backend, callback.get("queue")))
        text = backend.create_batch(body if description is None else body | {"description": description})
    print_one(options, text, "batch {id} is open")


def callback_of(name: str, text: str) -> dict[str, Any]:
    """Return the callback that a flag says; raises `InvalidInput`."""
    if not text.lstrip().startswith("{"):
        return {"type": text}
    try:
        said = exact(text)
    except ValueError as error:
        raise InvalidInput(f"--{name.replace('_', '-')} is not JSON: {error}", field=name) from None
    except RecursionError:
        raise InvalidInput(f"--{name.replace('_', '-')} is nested too deeply", field=name) from None
    unknown = set(said) - {"type", "payload", "queue", "priority", "maxAttempts"}
    if unknown or "type" not in said:
        told = f"has {min(unknown)}" if unknown else "has no type"
        raise InvalidInput(
            f"--{name.replace('_', '-')} {told}; it takes type, payload, queue, priority and maxAttempts", field=name
        )
    return dict(said)


@click.command("seal")
@click.argument("batch_id", metavar="BATCH-ID")
@backend_options
@pass_options
def seal(options: Options, batch_id: str) -> None:
    """Let a batch end once all its jobs have."""
    with open_batches(options) as backend:
        text = backend.seal_batch(batch_id)
    print_one(options, text, "batch {id} is sealed")


@click.command("cancel")
@click.argument("batch_id", metavar="BATCH-ID")
@click.option("--running", is_flag=True, help="Also cancel its jobs that run: their handlers are told.")
@backend_options
@pass_options
def cancel(options: Options, batch_id: str, *, running: bool) -> None:
    """Cancel the queued jobs of a batch; it is done, and has failed, once none of its jobs runs."""
    with open_batches(options) as backend:
        text = backend.cancel_batch(batch_id, running=running)
    left = decoded(text)["progress"]["running"]
    print_one(options, text, "batch {id} is canceled" + (f"; {left:,} of its jobs run" if left else ""))


def print_one(options: Options, text: str, words: str) -> None:
    """Print what became of a batch."""
    if options.json:
        output.print_json(text)
        return
    batch = decoded(text)
    if options.output == "csv":
        print_batches(options, [batch], str)
    else:
        click.echo(words.format(id=batch["id"]))
