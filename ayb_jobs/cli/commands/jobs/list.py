"""`ayb-jobs jobs list`."""

from typing import Any

import click

from ayb_jobs.cli import output
from ayb_jobs.cli.backend.listing import open_listing
from ayb_jobs.cli.commands.jobs.filtering import filter_of, filter_options, is_given
from ayb_jobs.cli.commands.jobs.printing import STATES, print_jobs
from ayb_jobs.cli.options import Options, backend_options, pass_options
from ayb_jobs.cli.output import decoded
from ayb_jobs.cli.values import LIMIT
from ayb_jobs.model.pauses import pauses_of


@click.command("list")
@click.option("--state", type=click.Choice(STATES), help="Only jobs in this state.")
@click.option(
    "--due/--later", default=None, help="Only queued jobs that are due, or due later, in the order in which they are."
)
@filter_options
@click.option("--limit", type=LIMIT, default=50, show_default=True, help="At most so many.")
@backend_options
@pass_options
def list_(options: Options, /, state: str | None, limit: int, *, due: bool | None, **said: Any) -> None:
    """List jobs, the newest first; with --due or --later, those first that become due first."""
    output.must_print()
    flags = {name: None if value == "" else value for name, value in said.items()}  # as the API and AYB take them
    with open_listing(options) as backend:
        text = backend.list_jobs(filter_of(backend, flags), state=state, due=due, limit=limit)
        when = output.when_for(options, backend)
        paused = backend.paused_names() if not options.json and '"state":"queued"' in text else frozenset()
    if options.json:
        output.print_page(options, text)
        return
    found = decoded(text)["items"]
    if not found and options.output != "csv":
        output.say(nothing(filtered=is_given(flags | {"state": state, "due": due})))
        return
    marked = [
        job | {"isPaused": not paused.isdisjoint(pauses_of(*map(job.get, ("queue", "type", "limit", "limitKey"))))}
        for job in found
    ]
    print_jobs(options, marked, when)
    if len(found) == limit:
        output.say(
            f"The {'newest' if due is None else 'first'} {limit}; --limit shows more, --type, --since and others fewer."
        )


def nothing(*, filtered: bool) -> str:
    """Say what to do if no job was found."""
    if filtered:
        return "No such jobs; leave out a filter to see more."
    return "There are no jobs yet. Make one with: ayb-jobs jobs enqueue TYPE"
