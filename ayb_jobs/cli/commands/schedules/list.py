"""`ayb-jobs schedules list`."""

import click

from ayb_jobs.cli import output
from ayb_jobs.cli.backend.backend import open_schedules
from ayb_jobs.cli.commands.schedules.printing import print_schedules
from ayb_jobs.cli.options import Options, backend_options, pass_options
from ayb_jobs.cli.output import decoded


@click.command("list")
@backend_options
@pass_options
def list_(options: Options) -> None:
    """List all schedules, by name."""
    output.must_print()
    with open_schedules(options) as backend:
        text = backend.list_schedules()
        when = output.when_for(options, backend)
    if options.json:
        output.print_page(options, text)
        return
    found = decoded(text)["items"]
    if not found and options.output != "csv":
        output.say(
            'There are no schedules yet. Make one with: ayb-jobs schedules create --name N --job-type T --cron "0 3 * * *"'
        )
        return
    print_schedules(options, found, when)
