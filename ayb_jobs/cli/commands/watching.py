"""Watching schedules: what is overdue, what became of each fire, and what differs from its definition."""

import json
import os
from typing import Any

import click

from ayb_jobs.cli import output
from ayb_jobs.cli.backend.database import database
from ayb_jobs.cli.options import Options, common_options, json_option, pass_options
from ayb_jobs.cli.output import Column, ago
from ayb_jobs.cli.values import WholeNumber
from ayb_jobs.storage.schedules.ledger import LedgerRow, list_fires
from ayb_jobs.storage.schedules.overdue import Overdue, list_overdue
from ayb_jobs.storage.schedules.schedules import get_schedule
from ayb_jobs.wire.jobs import instant_text, object_text, page_text

MAX_FIRES = 10_000


@click.command(short_help="List overdue schedules; exit code 1 where there are any.")
@common_options
@json_option
@pass_options
def overdue(options: Options) -> int:
    """List schedules that did not do what was expected of them, and end with 1 where there are any.

    It asks the database alone, so that it is right even where no daemon runs: put it into a monitor or a cron line.
    """
    with database(options) as conn:
        found = list_overdue(conn)
    if options.json:
        output.print_json(page_text(map(overdue_text, found)))
    elif found:
        print_overdue(found)
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


def print_overdue(found: list[Overdue]) -> None:
    """Print overdue schedules."""
    columns = [
        Column(title="NAME", key=True),
        Column(title="REASON"),
        Column(title="SINCE"),
        Column(title="WHY", flexible=True),
    ]
    rows = [[each.name, each.reason, when(instant_text(each.since)), each.words] for each in found]
    output.print_table(columns, rows)


@click.command(short_help="Show what became of each fire.")
@click.argument("schedule", metavar="[SCHEDULE]", required=False)
@click.option("--limit", type=WholeNumber(1, MAX_FIRES), default=50, show_default=True, help="At most so many.")
@common_options
@json_option
@pass_options
def fires(options: Options, schedule: str | None, limit: int) -> None:
    """Show what became of each fire of SCHEDULE (an id or a name), or of all schedules, the latest first."""
    with database(options) as conn:
        schedule_id = None if schedule is None else get_schedule(conn, schedule).id
        found = list_fires(conn, schedule_id=schedule_id, limit=limit)
    if options.json:
        output.print_json(page_text(map(fire_text, found)))
    elif found:
        print_fires(found)
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


def print_fires(found: list[LedgerRow]) -> None:
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
    output.print_table(columns, rows)


@click.command(short_help="Show how schedules differ from what packs and settings define.")
@common_options
@json_option
@pass_options
def diff(options: Options) -> int:
    """Show how schedules differ from what the packs and the settings define, and end with 1 where any does.

    `edited` by an operator, who is kept; `outdated` or `missing`, which the daemon's next start puts right; `undefined`
    for what was shipped once and is defined no more.
    """
    from ayb_jobs.config import load_config  # noqa: PLC0415 - slow to import, and the rest does without
    from ayb_jobs.handlers.packs import build_registry  # noqa: PLC0415
    from ayb_jobs.handlers.shipped import shipped_schedules  # noqa: PLC0415
    from ayb_jobs.storage.schedules.definitions import list_drift  # noqa: PLC0415

    config = load_config(options.config, os.environ, {"database.url": options.database_url})
    shipped = shipped_schedules(config, build_registry(config))
    with database(options) as conn:
        drifts = list_drift(conn, shipped, default_max_attempts=config.jobs.max_retries_default)
    if options.json:
        items = [
            {
                "name": drift.name,
                "kind": drift.kind,
                "fields": {name: {"defined": pair[0], "actual": pair[1]} for name, pair in drift.fields.items()},
            }
            for drift in drifts
        ]
        output.print_json(json.dumps({"items": items, "count": len(items)}))
    else:
        for drift in drifts:
            click.echo(f"{output.one_line(drift.name)}: {drift.kind}")
            for name, (defined, actual) in drift.fields.items():
                click.echo(f"    {name}: {shown(name, defined)} is defined, {shown(name, actual)} is in use")
        if not drifts:
            output.say("Every schedule is as it is defined.")
    return int(bool(drifts))


def shown(name: str, value: Any) -> str:
    """Return a field's value for people; an address that may hold a secret is not shown."""
    if name == "ping_url":
        return "an address" if value else "none"
    return output.one_line(json.dumps(value, ensure_ascii=False))


def when(text: str) -> str:
    """Return an instant: how far away for people, as it is for programs."""
    return ago(text) if output.is_terminal() else text
