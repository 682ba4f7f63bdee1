"""`ayb-jobs schedules timeline`."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from ayb_jobs.cli import output
from ayb_jobs.cli.backend.database import database
from ayb_jobs.cli.commands.schedules.collisions import collision_json, fires_between, print_collisions
from ayb_jobs.cli.drawing import Lane, as_svg, as_text
from ayb_jobs.cli.options import Options, common_options, json_option, pass_options
from ayb_jobs.cli.values import CALENDAR_INSTANT, WholeNumber
from ayb_jobs.errors import InvalidInput
from ayb_jobs.model.instants import instant_text
from ayb_jobs.model.schedules.preview import Collision, collisions
from ayb_jobs.storage.clock import now as database_now
from ayb_jobs.storage.schedules.durations import typical_seconds
from ayb_jobs.storage.schedules.schedules import list_schedules

MOST_HOURS = 24 * 31


@click.command
@click.option("--hours", type=WholeNumber(1, MOST_HOURS), default=24, show_default=True, help="How far ahead.")
@click.option("--from", "from_", type=CALENDAR_INSTANT, metavar="WHEN", help="From then; from this hour if not given.")
@click.option("--svg", type=click.Path(path_type=Path), metavar="FILE", help="Write the drawing as SVG; - for stdout.")
@common_options
@json_option
@pass_options
def timeline(options: Options, hours: int, from_: str | None, svg: Path | None) -> None:
    """Draw when each enabled schedule fires and how long it usually runs, so that collisions are seen."""
    output.must_print()
    with database(options) as conn:
        start = datetime.fromisoformat(from_) if from_ else this_hour(database_now(conn))
        end = start + timedelta(hours=hours)
        enabled = [schedule for schedule in list_schedules(conn) if schedule.enabled]
        seconds = typical_seconds(conn)
        lanes = [
            Lane(schedule.name, tuple(fires_between(schedule, start, end)), seconds.get(schedule.id, 0.0))
            for schedule in enabled
        ]
    met = collisions({lane.name: lane.fires for lane in lanes})
    if svg is not None:
        write_text(svg, as_svg(lanes, start, end))
    elif options.json:
        output.print_json(timeline_json(lanes, met))
    elif not lanes:
        output.say("No schedule is enabled, so there is nothing to draw.")
    else:
        click.echo(as_text(lanes, start, end))
        click.echo()
        print_collisions(met)


def this_hour(now: datetime) -> datetime:
    """Return when the hour began in which `now` lies."""
    return now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def timeline_json(lanes: Sequence[Lane], met: Sequence[Collision]) -> str:
    """Return the timeline for programs."""
    items = [
        {"name": lane.name, "typicalSec": lane.seconds, "fires": [instant_text(fire) for fire in lane.fires]}
        for lane in lanes
    ]
    return json.dumps({"items": items, "collisions": [collision_json(each) for each in met]})


def write_text(path: Path, text: str) -> None:
    """Write a file, or standard output for `-`."""
    if str(path) == "-":
        click.echo(text)
        return
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"{path} cannot be written: {error.strerror}", field="svg") from None
