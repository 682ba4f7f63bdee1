"""`ayb-jobs schedules diff`."""

from typing import Any

import click

from ayb_jobs.cli import output
from ayb_jobs.cli.backend.database import database
from ayb_jobs.cli.options import Options, common_options, json_option, pass_options
from ayb_jobs.cli.settings import settings
from ayb_jobs.handlers.packs import build_registry
from ayb_jobs.handlers.shipped import shipped_schedules
from ayb_jobs.model.digits import json_text
from ayb_jobs.storage.schedules.definitions import list_drift


@click.command
@common_options
@json_option
@pass_options
def diff(options: Options) -> int:
    """Show how schedules differ from what the packs and the settings define, and end with 1 if any does.

    `edited` by an operator, who is kept; `outdated` or `missing`, which the daemon's next start puts right; `undefined`
    for what was shipped once and is defined no more.
    """
    config = settings(options)
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
        output.print_page(options, json_text({"items": items, "count": len(items)}))
    else:
        for drift in drifts:
            click.echo(f"{output.one_line(drift.name)}: {drift.kind}")
            for name, (defined, actual) in drift.fields.items():
                click.echo(f"    {name}: {shown(name, defined)} is defined, {shown(name, actual)} is in use")
        if not drifts:
            output.say("Every schedule matches its definition.")
    return int(bool(drifts))


def shown(name: str, value: Any) -> str:
    """Return a field's value for people; an address that may hold a secret is not shown."""
    if name == "ping_url":
        return "an address" if value else "none"
    return output.one_line(json_text(value))
