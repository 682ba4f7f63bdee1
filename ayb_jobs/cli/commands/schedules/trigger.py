"""`ayb-jobs schedules trigger`."""

import click

from ayb_jobs.cli.backend.backend import open_schedules
from ayb_jobs.cli.commands.jobs.printing import print_change
from ayb_jobs.cli.options import Options, backend_options, pass_options


@click.command
@click.argument("schedule", metavar="SCHEDULE")
@backend_options
@pass_options
def trigger(options: Options, schedule: str) -> None:
    """Enqueue a job of SCHEDULE, an id or a name, now, enabled or not. Its fires stay as they are."""
    with open_schedules(options) as backend:
        text = backend.trigger_schedule(schedule)
    print_change(options, text, "{id} is {state}")
