"""How the commands about schedules print."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import click

from ayb_jobs.cli import output
from ayb_jobs.cli.options import Options
from ayb_jobs.cli.output import Column, ago, decoded

STATE_STYLES = {"enabled": "green", "disabled": "yellow", "broken": "red", "dormant": "yellow", "ended": "yellow"}


def state_of(schedule: Mapping[str, Any]) -> str:
    """Return whether a schedule fires: enabled, disabled, broken, dormant or ended."""
    return str(schedule["state"])


def clock_for(options: Options, clock: output.Clock) -> datetime | None:
    """Return the clock if what is printed needs it.

    To be asked before anything is changed: an error then means that nothing was.
    """
    return None if options.json or options.output == "csv" else clock.now()


def print_schedule(options: Options, text: str, words: str, now: datetime | None) -> None:
    """Print what became of a schedule, and how far its next run lies from `now`, which `clock_for` returned."""
    if options.json:
        output.print_json(text)
        return
    schedule = decoded(text)
    if options.output == "csv":
        print_schedules(options, [schedule], str)
        return
    click.echo(f"schedule {output.one_line(schedule['name'])} {words}  ({schedule['id']})")
    if schedule["enabled"] and schedule.get("nextRunAt") and now is not None:
        click.echo(f"next run {schedule['nextRunAt']}  ({ago(schedule['nextRunAt'], now)})")


def print_schedules(options: Options, found: list[dict[str, Any]], when: Callable[[str], str]) -> None:
    """Print schedules as a table; `when` words instants."""
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
    output.print_table(columns, rows, [STATE_STYLES[row[1]] for row in rows], form=options.output)
