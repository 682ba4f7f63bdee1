"""How the commands about schedules print."""

from collections.abc import Mapping
from typing import Any

import click

from ayb_jobs.cli import output
from ayb_jobs.cli.options import Options
from ayb_jobs.cli.output import ago, decoded

STATE_STYLES = {"enabled": "green", "disabled": "yellow", "broken": "red", "dormant": "yellow", "ended": "yellow"}


def state_of(schedule: Mapping[str, Any]) -> str:
    """Return whether a schedule fires: enabled, disabled, broken, dormant or ended."""
    return str(schedule["state"])


def print_schedule(options: Options, text: str, words: str) -> None:
    """Print what became of a schedule."""
    if options.json:
        output.print_json(text)
        return
    schedule = decoded(text)
    click.echo(f"schedule {output.one_line(schedule['name'])} {words}  ({schedule['id']})")
    if schedule.get("nextRunAt"):
        click.echo(f"next run {schedule['nextRunAt']}  ({ago(schedule['nextRunAt'])})")
