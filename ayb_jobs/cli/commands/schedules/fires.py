"""`ayb-jobs schedules fires`."""

import click

from ayb_jobs.cli import output
from ayb_jobs.cli.backend.database import database
from ayb_jobs.cli.options import Options, common_options, pass_options, table_options
from ayb_jobs.cli.output import Column
from ayb_jobs.cli.values import WholeNumber
from ayb_jobs.model.instants import instant_text
from ayb_jobs.storage.schedules.ledger import LedgerRow, list_fires
from ayb_jobs.storage.schedules.schedules import get_schedule
from ayb_jobs.wire.text import object_text, page_text

MAX_FIRES = 10_000


@click.command
@click.argument("schedule", metavar="[SCHEDULE]", required=False)
@click.option(
    "--limit", type=WholeNumber(1, MAX_FIRES, clamp=True), default=50, show_default=True, help="At most so many."
)
@common_options
@table_options
@pass_options
def fires(options: Options, schedule: str | None, limit: int) -> None:
    """Show what became of each fire of SCHEDULE (an id or a name), or of all schedules, the latest first."""
    output.must_print()
    with database(options) as conn:
        schedule_id = None if schedule is None else get_schedule(conn, schedule).id
        found = list_fires(conn, schedule_id=schedule_id, limit=limit)
    if options.json:
        output.print_page(options, page_text(map(fire_text, found)))
    elif found or options.output == "csv":
        print_fires(options, found)
    else:
        output.say("Nothing has fired yet; `schedules preview` shows what will.")


def fire_text(row: LedgerRow) -> str:
    """Return the JSON of a row of the ledger."""
    return object_text(
        {
            "schedule": row.schedule,
            "fireAt": row.fire_at,
            "outcome": row.outcome,
            "reason": row.reason,
            "jobId": row.job_id,
            "recordedAt": row.recorded_at,
        }
    )


def print_fires(options: Options, found: list[LedgerRow]) -> None:
    """Print rows of the ledger."""
    columns = [
        Column(title="FIRE", key=True),
        Column(title="SCHEDULE", key=True),
        Column(title="OUTCOME"),
        Column(title="DELAY", right=True),
        Column(title="REASON"),
        Column(title="JOB"),
    ]
    rows = [
        [
            instant_text(row.fire_at),
            row.schedule,
            row.outcome,
            f"{max(0.0, (row.recorded_at - row.fire_at).total_seconds()):.3f} s",
            row.reason or "",
            row.job_id or "",
        ]
        for row in found
    ]
    output.print_table(columns, rows, form=options.output)
