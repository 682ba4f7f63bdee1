"""`ayb-jobs schedules overdue`."""

from collections.abc import Callable

import click

from ayb_jobs.cli import output
from ayb_jobs.cli.backend.database import DatabaseClock, database
from ayb_jobs.cli.options import Options, common_options, pass_options, table_options
from ayb_jobs.cli.output import Column
from ayb_jobs.model.instants import instant_text
from ayb_jobs.storage.schedules.overdue import Overdue, list_overdue
from ayb_jobs.wire.text import object_text, page_text


@click.command
@common_options
@table_options
@pass_options
def overdue(options: Options) -> int:
    """List schedules that did not do what was expected of them, and end with 1 if there are any.

    It asks the database alone, so it is right even if no daemon runs. Put it into a monitor or a cron line.
    """
    with database(options) as conn:
        found = list_overdue(conn)
        when = output.when_for(options, DatabaseClock(conn))
    if options.json:
        output.print_page(options, page_text(map(overdue_text, found)))
    elif found or options.output == "csv":
        print_overdue(options, found, when)
    else:
        output.say("No schedule is overdue.")
    return int(bool(found))


def overdue_text(each: Overdue) -> str:
    """Return an overdue schedule's JSON."""
    return object_text(
        {
            "scheduleId": each.schedule_id,
            "name": each.name,
            "reason": each.reason,
            "since": each.since,
            "lastSuccessAt": each.last_success_at,
            "nextRunAt": each.next_run_at,
            "expectSuccessWithinSec": each.expect_success_within_s,
            "message": each.words,
        }
    )


def print_overdue(options: Options, found: list[Overdue], when: Callable[[str], str]) -> None:
    """Print overdue schedules."""
    columns = [
        Column(title="NAME", key=True),
        Column(title="REASON"),
        Column(title="SINCE"),
        Column(title="WHY", flexible=True),
    ]
    rows = [[each.name, each.reason, when(instant_text(each.since)), each.words] for each in found]
    output.print_table(columns, rows, form=options.output)
