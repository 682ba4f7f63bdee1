"""`ayb-jobs schedules show`."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import click

from ayb_jobs.cli import output
from ayb_jobs.cli.backend.backend import open_schedules
from ayb_jobs.cli.commands.schedules.finding import find
from ayb_jobs.cli.commands.schedules.printing import STATE_STYLES, clock_for, print_schedules, state_of
from ayb_jobs.cli.options import Options, backend_options, pass_options
from ayb_jobs.cli.output import ago

ORIGINS = {
    "shipped": "packs or settings",
    "edited": "packs or settings, and edited by an operator since",
    "operator": "an operator",
}


@click.command
@click.argument("schedule", metavar="SCHEDULE")
@backend_options
@pass_options
def show(options: Options, schedule: str) -> None:
    """Show all that is known of SCHEDULE, an id or a name; `fires` and `preview` show what it did and will do."""
    output.must_print()
    with open_schedules(options) as backend:
        found = find(backend, schedule)
        now = clock_for(options, backend)
    if now is not None:
        print_details(found, now)
    elif options.json:
        output.print_json(json.dumps(found, ensure_ascii=False))
    else:
        print_schedules(options, [found], str)


def print_details(schedule: Mapping[str, Any], now: datetime) -> None:
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
            title: f"{schedule[key]}  ({ago(schedule[key], now)})" if key != "lastError" else schedule[key]
            for key, title in words.items()
            if schedule.get(key)
        },
        "Payload": json.dumps(schedule["payload"], indent=2, ensure_ascii=False),
    }
    output.print_fields(fields, {"State": STATE_STYLES[state_of(schedule)]})
