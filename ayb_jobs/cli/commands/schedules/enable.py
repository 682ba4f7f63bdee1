"""`ayb-jobs schedules enable`."""

import click

from ayb_jobs.cli.backend.backend import open_schedules
from ayb_jobs.cli.commands.schedules.printing import clock_for, print_schedule
from ayb_jobs.cli.options import Options, backend_options, pass_options


@click.command
@click.argument("schedule", metavar="SCHEDULE")
@backend_options
@pass_options
def enable(options: Options, schedule: str) -> None:
    """Let SCHEDULE, an id or a name, fire from now on; nothing is made up for."""
    with open_schedules(options) as backend:
        now = clock_for(options, backend)
        text = backend.enable_schedule(schedule)
        print_schedule(options, text, "is enabled", now)
