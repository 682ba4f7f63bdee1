"""`ayb-jobs schedules create`."""

from typing import Any

import click

from ayb_jobs.cli.backend.backend import open_schedules
from ayb_jobs.cli.commands.schedules.fields import body_of, schedule_options
from ayb_jobs.cli.commands.schedules.printing import clock_for, print_schedule
from ayb_jobs.cli.options import Options, backend_options, pass_options
from ayb_jobs.cli.values import TRUTH
from ayb_jobs.cli.warnings import warning_of_unknown_type


@click.command
@click.option("--name", required=True, metavar="NAME", help="Its name; no other schedule may have it.")
@click.option("--job-type", required=True, metavar="TYPE", help="The type of its jobs.")
@click.option(
    "--cron", required=True, metavar="CRON", help="When: five fields, six with seconds first, @hourly, @every 90s."
)
@click.option(
    "--enabled",
    type=TRUTH,
    is_flag=False,
    flag_value="true",
    metavar="[true|false]",
    help="Whether it fires.  [default: true]",
)
@schedule_options(defaults=True)
@backend_options
@pass_options
def create(options: Options, /, **given: Any) -> None:
    """Create a schedule. Its first fire is the first time after now that CRON names."""
    with open_schedules(options) as backend, warning_of_unknown_type(backend, given["job_type"]):
        now = clock_for(options, backend)
        text = backend.create_schedule(body_of(given))
        print_schedule(options, text, "is created", now)
