"""`ayb-jobs schedules preview`."""

import json
from collections.abc import Iterator, Sequence
from datetime import datetime

import click

from ayb_jobs.cli import output
from ayb_jobs.cli.backend.database import clock_now, database
from ayb_jobs.cli.options import Options, common_options, pass_options, table_options
from ayb_jobs.cli.output import Column
from ayb_jobs.cli.values import CALENDAR_INSTANT, WholeNumber
from ayb_jobs.errors import InvalidInput
from ayb_jobs.model.instants import instant_text
from ayb_jobs.model.schedules.cron import Ended, read_cron
from ayb_jobs.model.schedules.preview import Foreseen, foresee
from ayb_jobs.storage.clock import now as database_now
from ayb_jobs.storage.schedules.schedules import get_schedule


@click.command
@click.argument("schedule", metavar="[SCHEDULE]", required=False)
@click.option("--cron", metavar="CRON", help="An expression to try, in place of a schedule's.")
@click.option("--timezone", metavar="ZONE", help="The time zone, in place of the schedule's; UTC for an expression.")
@click.option("--dst", type=click.Choice(["once", "skip", "both"]), help="The daylight-saving rule to try.")
@click.option(
    "--from", "from_", type=CALENDAR_INSTANT, metavar="WHEN", help="Fires after then; after now if not given."
)
@click.option("--count", type=WholeNumber(1, 1000), default=20, show_default=True, help="So many fires.")
@common_options
@table_options
@pass_options
def preview(
    options: Options,
    /,
    *,
    schedule: str | None,
    cron: str | None,
    timezone: str | None,
    dst: str | None,
    from_: str | None,
    count: int,
) -> None:
    """Show the next fires of SCHEDULE (an id or a name), or of an expression, in local time and UTC.

    What a change of clocks does to a fire is marked, and times that the daylight-saving rule leaves out are shown.
    """
    output.must_print()
    if (schedule is None) == (cron is None):
        raise InvalidInput("give a schedule, or an expression with --cron")
    known_fire = None
    after = None if from_ is None else datetime.fromisoformat(from_)
    if schedule is not None:
        with database(options) as conn:
            stored, after = get_schedule(conn, schedule), after or database_now(conn)
        known_fire = stored.next_run_at
        cron, timezone, dst = stored.cron, timezone or stored.timezone, dst or stored.dst
    assert cron is not None  # noqa: S101 - one of the two was given
    zone = timezone or "UTC"
    read_cron(cron, zone)
    after = after or clock_now(options)
    print_foreseen(options, first_fires(foresee(cron, zone, after, dst or "once", beside=known_fire), count))


def first_fires(seen: Iterator[Foreseen], count: int) -> list[Foreseen]:
    """Return so many fires, or those up to the last, and what is left out among them.

    Raises `Ended` if none is left.
    """
    found: list[Foreseen] = []
    try:
        for each in seen:
            found.append(each)
            count -= each.is_fire
            if count == 0:
                break
    except Ended:
        if not found:
            raise
    return found


def print_foreseen(options: Options, found: Sequence[Foreseen]) -> None:
    """Print fires, and what is left out among them."""
    if options.json:
        items = [
            {"at": instant_text(each.at), "local": each.local.isoformat(), "fires": each.is_fire, "note": each.note}
            for each in found
        ]
        output.print_page(options, json.dumps({"items": items, "count": len(items)}, separators=(",", ":")))
        return
    columns = [Column(title="LOCAL TIME", key=True), Column(title="UTC", key=True), Column(title="NOTE", flexible=True)]
    full = any(each.at.second for each in found) or not output.is_drawn(options.output)
    time = "%T" if full else "%R"  # without seconds the note fits into 80 columns
    rows = [[f"{each.local:%a %F {time} %Z}", f"{each.at:%F {time}}", each.note] for each in found]
    output.print_table(columns, rows, form=options.output)
