"""`ayb-jobs schedules`: look at schedules, create, change, switch, delete and trigger them."""

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from ayb_jobs.cli import output
from ayb_jobs.cli.backend.backend import open_schedules
from ayb_jobs.cli.commands.importing import import_
from ayb_jobs.cli.commands.preview import lint, preview, timeline
from ayb_jobs.cli.commands.watching import diff, fires, overdue
from ayb_jobs.cli.options import Options, door_options, pass_options
from ayb_jobs.cli.output import Column, ago, decoded
from ayb_jobs.cli.values import DURATION, JSON, TRUTH, WholeNumber
from ayb_jobs.cli.warnings import warning_of_unknown_type
from ayb_jobs.errors import InvalidInput, NotFound

F = TypeVar("F", bound=Callable[..., Any])

STATE_STYLES = {"enabled": "green", "disabled": "yellow", "broken": "red"}

# Flags by the names of the API's fields.
FIELDS: Mapping[str, str] = {
    "name": "name",
    "job_type": "jobType",
    "cron": "cronExpr",
    "timezone": "timezone",
    "payload": "payload",
    "enabled": "enabled",
    "max_attempts": "maxAttempts",
    "queue": "queue",
    "priority": "priority",
    "catchup": "catchup",
    "overlap": "overlap",
    "dst": "dst",
    "jitter": "jitterSec",
    "timeout": "timeoutSec",
    "expect_success_within": "expectSuccessWithinSec",
    "ping_url": "pingUrl",
}


def schedule_options(command: F) -> F:
    """Give a command a flag for each field of a schedule besides its name, job type and timing."""
    options: list[Callable[[Any], Any]] = [
        click.option("--timezone", metavar="ZONE", help="The IANA time zone of the cron expression, such as UTC."),
        click.option("--payload", type=JSON, metavar="JSON", help="What its jobs are given: JSON, @FILE, or -."),
        click.option("--enabled", type=TRUTH, metavar="true|false", help="Whether it fires."),
        click.option("--queue", metavar="QUEUE", help="The queue of its jobs."),
        click.option("--priority", type=WholeNumber(1, 4), help="The priority of its jobs; 1 goes first."),
        click.option("--max-attempts", type=WholeNumber(1), help="How often each job may be tried."),
        click.option("--catchup", type=click.Choice(["latest", "all", "skip"]), help="What becomes of missed fires."),
        click.option(
            "--overlap",
            type=click.Choice(["allow", "skip", "queue_one", "cancel_running"]),
            help="What a fire does while an earlier job has not ended.",
        ),
        click.option(
            "--dst",
            type=click.Choice(["once", "skip", "both"]),
            help="What a fixed hour does when clocks skip or repeat it.",
        ),
        click.option("--jitter", type=DURATION, metavar="TIME", help="Spread its jobs over so long: 90s, 15m."),
        click.option("--timeout", type=DURATION, metavar="TIME", help="How long one run may take."),
        click.option(
            "--expect-success-within", type=DURATION, metavar="TIME", help="Overdue once no job succeeded for so long."
        ),
        click.option("--ping-url", metavar="URL", help="A healthchecks-style address of its own."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.group(short_help="Look at schedules; create, change and watch them.")
@door_options
def schedules() -> None:
    """Look at schedules; create, change and watch them."""


@schedules.command("list", short_help="List all schedules, by name.")
@door_options
@pass_options
def list_(options: Options) -> None:
    """List all schedules, by name."""
    with open_schedules(options) as door:
        text = door.list_schedules()
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


@schedules.command(short_help="Show one schedule.")
@click.argument("schedule", metavar="SCHEDULE")
@door_options
@pass_options
def show(options: Options, schedule: str) -> None:
    """Show all that is known of SCHEDULE, an id or a name; `fires` and `preview` show what it did and will do."""
    with open_schedules(options) as door:
        found = decoded(door.list_schedules())["items"]
    by_id = [each for each in found if each["id"] == schedule]
    by_name = [each for each in found if each["name"] == schedule]
    for each in by_id or by_name:
        if options.json:
            output.print_json(json.dumps(each, ensure_ascii=False))
        else:
            print_details(each)
        return
    raise NotFound(f"there is no schedule {schedule}")


def print_details(schedule: Mapping[str, Any]) -> None:
    """Print all that is known of a schedule."""
    words = {"nextRunAt": "Next run", "lastRunAt": "Last run", "lastFireAt": "Last fire", "lastError": "Error"}
    fields = {
        "Id": schedule["id"],
        "Name": schedule["name"],
        "State": state_of(schedule),
        "Job type": f"{schedule['jobType']}, queue {schedule['queue']}, priority {schedule['priority']}",
        "Cron": f"{schedule['cronExpr']}  ({schedule['timezone']}, dst {schedule['dst']})",
        "Missed fires": f"catchup {schedule['catchup']}",
        "Overlaps": schedule["overlap"],
        "Jitter": f"{schedule['jitterSec']:g} s",
        "Attempts": str(schedule["maxAttempts"]),
        "Timeout": f"{schedule['timeoutSec']:g} s" if "timeoutSec" in schedule else "that of the job type",
        "Success": f"expected within {schedule['expectSuccessWithinSec']:g} s"
        if "expectSuccessWithinSec" in schedule
        else "not watched",
        "Defined by": ORIGINS[schedule["origin"]],
        **{
            title: f"{schedule[key]}  ({ago(schedule[key])})" if key != "lastError" else schedule[key]
            for key, title in words.items()
            if schedule.get(key)
        },
        "Payload": json.dumps(schedule["payload"], indent=2, ensure_ascii=False),
    }
    output.print_fields(fields, {"State": STATE_STYLES[state_of(schedule)]})


ORIGINS = {
    "shipped": "packs or settings",
    "edited": "packs or settings, and edited by an operator since",
    "operator": "an operator",
}


def state_of(schedule: Mapping[str, Any]) -> str:
    """Return whether a schedule fires: enabled, disabled or broken."""
    if not schedule["enabled"]:
        return "disabled"
    return "broken" if schedule.get("lastError") else "enabled"


@schedules.command(short_help="Create a schedule.")
@click.option("--name", required=True, metavar="NAME", help="What it is called; no other may be called so.")
@click.option("--job-type", required=True, metavar="TYPE", help="The type of its jobs.")
@click.option(
    "--cron", required=True, metavar="CRON", help="When: five fields, six with seconds first, @hourly, @every 90s."
)
@schedule_options
@door_options
@pass_options
def create(options: Options, /, **given: Any) -> None:
    """Create a schedule. It fires first at the first time after now."""
    with open_schedules(options) as door, warning_of_unknown_type(door, given["job_type"]):
        text = door.create_schedule(body_of(given))
    print_schedule(options, text, "is created")


@schedules.command(short_help="Change a schedule.")
@click.argument("schedule", metavar="SCHEDULE")
@click.option("--name", metavar="NAME", help="What it shall be called.")
@click.option("--job-type", metavar="TYPE", help="The type of its jobs.")
@click.option("--cron", metavar="CRON", help="When: five fields, six with seconds first, @hourly, @every 90s.")
@schedule_options
@door_options
@pass_options
def update(options: Options, /, schedule: str, **given: Any) -> None:
    """Change what is given of SCHEDULE, an id or a name. With a new timing, it fires first at the first time after now."""
    changes = body_of(given)
    if not changes:
        raise InvalidInput("nothing is to be changed; give at least one flag, such as --cron")
    with open_schedules(options) as door:
        text = door.update_schedule(schedule, changes)
    print_schedule(options, text, "is changed")


@schedules.command(short_help="Let a schedule fire.")
@click.argument("schedule", metavar="SCHEDULE")
@door_options
@pass_options
def enable(options: Options, schedule: str) -> None:
    """Let SCHEDULE, an id or a name, fire from now on; nothing is made up for."""
    with open_schedules(options) as door:
        text = door.enable_schedule(schedule)
    print_schedule(options, text, "is enabled")


@schedules.command(short_help="Keep a schedule from firing.")
@click.argument("schedule", metavar="SCHEDULE")
@door_options
@pass_options
def disable(options: Options, schedule: str) -> None:
    """Keep SCHEDULE, an id or a name, from firing until it is enabled again."""
    with open_schedules(options) as door:
        text = door.disable_schedule(schedule)
    print_schedule(options, text, "is disabled")


@schedules.command(short_help="Delete a schedule.")
@click.argument("schedule", metavar="SCHEDULE")
@door_options
@pass_options
def delete(options: Options, schedule: str) -> None:
    """Delete SCHEDULE, an id or a name, with the record of its fires. Its jobs stay."""
    with open_schedules(options) as door:
        door.delete_schedule(schedule)
    if options.json:
        output.print_json('{"deleted":true}')
    else:
        click.echo(f"schedule {output.one_line(schedule)} is deleted")


@schedules.command(short_help="Run a schedule's job now.")
@click.argument("schedule", metavar="SCHEDULE")
@door_options
@pass_options
def trigger(options: Options, schedule: str) -> None:
    """Enqueue a job of SCHEDULE, an id or a name, now, enabled or not. Its fires stay as they are."""
    with open_schedules(options) as door:
        text = door.trigger_schedule(schedule)
    if options.json:
        output.print_json(text)
    else:
        click.echo(f"job {decoded(text)['id']} is queued")


def body_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was given as the API's fields."""
    return {FIELDS[flag]: value for flag, value in given.items() if value is not None}


def print_schedule(options: Options, text: str, words: str) -> None:
    """Print what became of a schedule."""
    if options.json:
        output.print_json(text)
        return
    schedule = decoded(text)
    click.echo(f"schedule {output.one_line(schedule['name'])} {words}  ({schedule['id']})")
    if schedule.get("nextRunAt"):
        click.echo(f"next run {schedule['nextRunAt']}  ({ago(schedule['nextRunAt'])})")


for command in (preview, timeline, lint, overdue, fires, diff, import_):
    schedules.add_command(command)
