"""`ayb-jobs schedules delete`."""

import click

from ayb_jobs.cli import output
from ayb_jobs.cli.backend.backend import open_schedules
from ayb_jobs.cli.options import Options, backend_options, pass_options


@click.command
@click.argument("schedule", metavar="SCHEDULE")
@backend_options
@pass_options
def delete(options: Options, schedule: str) -> None:
    """Delete SCHEDULE, an id or a name, with the record of its fires. Its jobs stay."""
    with open_schedules(options) as backend:
        backend.delete_schedule(schedule)
    if options.json:
        output.print_json('{"deleted":true}')
    elif options.output == "csv":
        output.print_table([output.Column(title="DELETED")], [[schedule]], form="csv")
    else:
        click.echo(f"schedule {output.one_line(schedule)} is deleted")
