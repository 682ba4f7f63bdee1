"""`ayb-jobs schedules trigger`."""

import click

from ayb_jobs.cli import output
from ayb_jobs.cli.backend.backend import open_schedules
from ayb_jobs.cli.options import Options, backend_options, pass_options
from ayb_jobs.cli.output import decoded


@click.command
@click.argument("schedule", metavar="SCHEDULE")
@backend_options
@pass_options
def trigger(options: Options, schedule: str) -> None:
    """Enqueue a job of SCHEDULE, an id or a name, now, enabled or not. Its fires stay as they are."""
    with open_schedules(options) as backend:
        text = backend.trigger_schedule(schedule)
    if options.json:
        output.print_json(text)
    else:
        click.echo(f"job {decoded(text)['id']} is queued")
