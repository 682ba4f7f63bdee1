"""`ayb-jobs schedules list`."""

from typing import Any

import click

from ayb_jobs.cli import output
from ayb_jobs.cli.backend.backend import open_schedules
from ayb_jobs.cli.commands.schedules.printing import STATE_STYLES, state_of
from ayb_jobs.cli.options import Options, backend_options, pass_options
from ayb_jobs.cli.output import Column, ago, decoded


@click.command("list")
@backend_options
@pass_options
def list_(options: Options) -> None:
    """List all schedules, by name."""
    with open_schedules(options) as backend:
        text = backend.list_schedules()
    if options.json:
        output.print_json(text)
        return
    found = decoded(text)["items"]
    if not found:
        output.say(
            'There are no schedules yet. Make one with: ayb-jobs schedules create --name N --job-type T --cron "0 3 * * *"'
        )
        return
    print_schedules(found)


def print_schedules(found: list[dict[str, Any]]) -> None:
    """Print schedules as a table."""
    columns = [
        Column(title="NAME", key=True),
        Column(title="STATE"),
        Column(title="CRON"),
        Column(title="NEXT RUN"),
        Column(title="JOB TYPE"),
        Column(title="TIMEZONE"),
        Column(title="LAST RUN"),
        Column(title="ID"),
        Column(title="ERROR", flexible=True),
    ]
    when = ago if output.is_terminal() else str
    rows = [
        [
            schedule["name"],
            state_of(schedule),
            schedule["cronExpr"],
            when(schedule["nextRunAt"]) if schedule.get("nextRunAt") else "",
            schedule["jobType"],
            schedule["timezone"],
            when(schedule["lastRunAt"]) if schedule.get("lastRunAt") else "",
            schedule["id"],
            schedule.get("lastError", ""),
        ]
        for schedule in found
    ]
    output.print_table(columns, rows, [STATE_STYLES[row[1]] for row in rows])
