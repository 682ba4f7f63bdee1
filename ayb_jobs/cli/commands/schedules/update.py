"""`ayb-jobs schedules update`."""

import json
from typing import Any

import click

from ayb_jobs.cli.backend.backend import open_schedules
from ayb_jobs.cli.commands.schedules.fields import body_of, schedule_options
from ayb_jobs.cli.commands.schedules.finding import find
from ayb_jobs.cli.commands.schedules.printing import clock_for, print_schedule
from ayb_jobs.cli.options import Options, backend_options, pass_options
from ayb_jobs.cli.values import TRUTH


@click.command
@click.argument("schedule", metavar="SCHEDULE")
@click.option("--name", metavar="NAME", help="A new name.")
@click.option("--job-type", metavar="TYPE", help="The type of its jobs.")
@click.option("--cron", metavar="CRON", help="When: five fields, six with seconds first, @hourly, @every 90s.")
@click.option("--enabled", type=TRUTH, metavar="true|false", help="Whether it fires.")
@schedule_options(defaults=False)
@backend_options
@pass_options
def update(options: Options, /, schedule: str, **given: Any) -> None:
    """Change what is given of SCHEDULE, an id or a name. With a new timing, it fires first at the first time after now.

    If nothing is given, or an empty --cron, nothing is changed.
    """
    changes = body_of({flag: value for flag, value in given.items() if (flag, value) != ("cron", "")})
    with open_schedules(options) as backend:
        now = clock_for(options, backend)
        text = backend.update_schedule(schedule, changes) if changes else json.dumps(find(backend, schedule))
        print_schedule(options, text, "is changed" if changes else "is unchanged", now)
