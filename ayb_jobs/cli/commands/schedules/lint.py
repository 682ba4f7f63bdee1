"""`ayb-jobs schedules lint`."""

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import click

from ayb_jobs.cli import output
from ayb_jobs.cli.backend.database import database
from ayb_jobs.cli.commands.schedules.collisions import collision_json, fires_between, print_collisions
from ayb_jobs.cli.options import Options, common_options, json_option, pass_options
from ayb_jobs.model.instants import instant_text
from ayb_jobs.model.schedules.lint import Finding, examine_all
from ayb_jobs.model.schedules.preview import Collision, collisions
from ayb_jobs.storage.clock import now as database_now
from ayb_jobs.storage.schedules.leaps import Righted, list_too_late
from ayb_jobs.storage.schedules.schedules import list_schedules


@click.command
@common_options
@json_option
@pass_options
def lint(options: Options) -> int:
    """Name what looks wrong about schedules: what cannot fire, what may not mean what it looks like, what collides.

    Ends with 1 if a schedule cannot fire, and with 0 if there are only warnings.
    """
    with database(options) as conn:
        now = database_now(conn)
        found = list_schedules(conn)
        late = list_too_late(conn)
    findings = examine_all(found, now)
    findings += [too_late(each) for each in late]
    end = now + timedelta(hours=24)
    met = collisions({each.name: list(fires_between(each, now, end)) for each in found if each.enabled})
    if options.json:
        items = [finding._asdict() for finding in findings]
        output.print_json(json.dumps({"items": items, "collisions": [collision_json(each) for each in met]}))
    else:
        print_findings(findings, met, len(found))
    return int(any(finding.level == "error" for finding in findings))


def too_late(each: Righted) -> Finding:
    """Return what is wrong about a next run that is later than the schedule's expression says."""
    words = (
        f"its next run is {instant_text(each.planned.next_run_at)}, but {instant_text(each.next_at)} by its expression"
    )
    return Finding(each.planned.name, "warning", f"{words}: the database's clock was set back, or somebody wrote it")


def print_findings(findings: Sequence[Any], met: Sequence[Collision], count: int) -> None:
    """Print what looks wrong, or that nothing does."""
    for finding in findings:
        colour = "red" if finding.level == "error" else "yellow"
        name = output.one_line(finding.schedule)
        click.echo(f"{click.style(finding.level, fg=colour)}  {name}: {output.one_line(finding.message)}")
    print_collisions(met)
    if not findings and not met:
        output.say(f"Nothing looks wrong about {count} schedule{'' if count == 1 else 's'}.")
