"""What schedules will do: their next fires, when they meet, and what looks wrong about them."""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from pathlib import Path
from typing import Any

import click

from ayb_jobs.cli import output
from ayb_jobs.cli.backend.database import database
from ayb_jobs.cli.drawing import Lane, as_svg, as_text
from ayb_jobs.cli.options import Options, common_options, json_option, pass_options
from ayb_jobs.cli.output import Column
from ayb_jobs.cli.values import INSTANT, WholeNumber
from ayb_jobs.errors import InvalidInput
from ayb_jobs.model.schedules.cron import check_cron, fires
from ayb_jobs.model.schedules.preview import Collision, Foreseen, collisions, examine, foresee
from ayb_jobs.model.schedules.schedule import Schedule
from ayb_jobs.storage.schedules.durations import typical_seconds
from ayb_jobs.storage.schedules.schedules import get_schedule, list_schedules
from ayb_jobs.wire.jobs import instant_text

MOST_HOURS = 24 * 31
MOST_FIRES = 100_000
MOST_COLLISIONS = 20


@click.command(short_help="Show the next fires.")
@click.argument("schedule", metavar="[SCHEDULE]", required=False)
@click.option("--cron", metavar="CRON", help="An expression to try, in place of a schedule's.")
@click.option("--timezone", metavar="ZONE", help="The time zone, in place of the schedule's; UTC for an expression.")
@click.option("--dst", type=click.Choice(["once", "skip", "both"]), help="The daylight-saving rule to try.")
@click.option("--from", "from_", type=INSTANT, metavar="WHEN", help="Fires after then; after now where not given.")
@click.option("--count", type=WholeNumber(1, 1000), default=20, show_default=True, help="So many fires.")
@common_options
@json_option
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
    if (schedule is None) == (cron is None):
        raise InvalidInput("give a schedule, or an expression with --cron")
    known_fire = None
    if schedule is not None:
        with database(options) as conn:
            stored = get_schedule(conn, schedule)
        known_fire = stored.next_run_at
        cron, timezone, dst = stored.cron, timezone or stored.timezone, dst or stored.dst
    assert cron is not None  # noqa: S101 - one of the two was given
    zone = timezone or "UTC"
    check_cron(cron, zone)
    after = datetime.fromisoformat(from_) if from_ else datetime.now(UTC)
    print_foreseen(options, first_fires(foresee(cron, zone, after, dst or "once", beside=known_fire), count))


def first_fires(seen: Iterator[Foreseen], count: int) -> list[Foreseen]:
    """Return so many fires, and what is left out among them."""
    found: list[Foreseen] = []
    for each in seen:
        found.append(each)
        count -= each.is_fire
        if count == 0:
            break
    return found


def print_foreseen(options: Options, found: Sequence[Foreseen]) -> None:
    """Print fires, and what is left out among them."""
    if options.json:
        items = [
            {"at": instant_text(each.at), "local": each.local.isoformat(), "fires": each.is_fire, "note": each.note}
            for each in found
        ]
        output.print_json(json.dumps({"items": items, "count": len(items)}))
        return
    columns = [Column(title="LOCAL TIME", key=True), Column(title="UTC", key=True), Column(title="NOTE", flexible=True)]
    rows = [[f"{each.local:%a %F %T %Z}", f"{each.at:%F %T}", each.note] for each in found]
    output.print_table(columns, rows)


@click.command(short_help="Draw when schedules fire and how long they run.")
@click.option("--hours", type=WholeNumber(1, MOST_HOURS), default=24, show_default=True, help="How far ahead.")
@click.option("--from", "from_", type=INSTANT, metavar="WHEN", help="From then; from this hour where not given.")
@click.option("--svg", type=click.Path(path_type=Path), metavar="FILE", help="Write the drawing as SVG; - for stdout.")
@common_options
@json_option
@pass_options
def timeline(options: Options, hours: int, from_: str | None, svg: Path | None) -> None:
    """Draw when each enabled schedule fires and how long it usually runs, so that collisions are seen."""
    start = datetime.fromisoformat(from_) if from_ else this_hour()
    end = start + timedelta(hours=hours)
    with database(options) as conn:
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


def this_hour() -> datetime:
    """Return when this hour began."""
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0)


def fires_between(schedule: Schedule, start: datetime, end: datetime) -> Iterator[datetime]:
    """Yield a schedule's fires from `start` to before `end`; none for one that is broken."""
    before = start - timedelta(microseconds=1)
    found = fires(schedule.cron, schedule.timezone, before, schedule.dst, beside=schedule.next_run_at)
    try:
        for number, fire in enumerate(takewhile(lambda fire: fire < end, found)):
            if number == MOST_FIRES:
                return
            yield fire
    except InvalidInput:
        return


def timeline_json(lanes: Sequence[Lane], met: Sequence[Collision]) -> str:
    """Return the timeline for programs."""
    items = [
        {"name": lane.name, "typicalSec": lane.seconds, "fires": [instant_text(fire) for fire in lane.fires]}
        for lane in lanes
    ]
    return json.dumps({"items": items, "collisions": [collision_json(each) for each in met]})


def collision_json(collision: Collision) -> dict[str, Any]:
    """Return a collision for programs."""
    first = instant_text(collision.first_at)
    return {"schedules": collision.schedules, "times": collision.times, "firstAt": first}


def print_collisions(met: Sequence[Collision]) -> None:
    """Print which schedules fire in the same minute."""
    for collision in met[:MOST_COLLISIONS]:
        click.echo(collision_words(collision))
    if len(met) > MOST_COLLISIONS:
        click.echo(f"… and {len(met) - MOST_COLLISIONS} more groups that meet")


def collision_words(collision: Collision) -> str:
    """Say which schedules fire in the same minute."""
    names = ", ".join(map(output.one_line, collision.schedules[:8]))
    more = f" and {len(collision.schedules) - 8} more" if len(collision.schedules) > 8 else ""  # noqa: PLR2004 - a line
    times = "once" if collision.times == 1 else f"{collision.times} times"
    return f"together {times}, first {collision.first_at:%F %R} UTC: {names}{more}"


def write_text(path: Path, text: str) -> None:
    """Write a file, or standard output for `-`."""
    if str(path) == "-":
        click.echo(text)
        return
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"{path} cannot be written: {error.strerror}", field="svg") from None


@click.command(short_help="Name what looks wrong about schedules.")
@common_options
@json_option
@pass_options
def lint(options: Options) -> int:
    """Name what looks wrong about schedules: what cannot fire, what may not mean what it looks like, what collides.

    Ends with 1 where a schedule cannot fire, and with 0 where there are warnings alone.
    """
    now = datetime.now(UTC)
    with database(options) as conn:
        found = list_schedules(conn)
    findings = [finding for schedule in found for finding in examine(schedule, now)]
    end = now + timedelta(hours=24)
    met = collisions({each.name: list(fires_between(each, now, end)) for each in found if each.enabled})
    if options.json:
        items = [finding._asdict() for finding in findings]
        output.print_json(json.dumps({"items": items, "collisions": [collision_json(each) for each in met]}))
    else:
        print_findings(findings, met, len(found))
    return int(any(finding.level == "error" for finding in findings))


def print_findings(findings: Sequence[Any], met: Sequence[Collision], count: int) -> None:
    """Print what looks wrong, or that nothing does."""
    for finding in findings:
        colour = "red" if finding.level == "error" else "yellow"
        name = output.one_line(finding.schedule)
        click.echo(f"{click.style(finding.level, fg=colour)}  {name}: {output.one_line(finding.message)}")
    print_collisions(met)
    if not findings and not met:
        output.say(f"Nothing looks wrong about {count} schedule{'' if count == 1 else 's'}.")
