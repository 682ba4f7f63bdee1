"""`ayb-jobs check-config`: what the daemon would run with, where each setting came from, and whether it can work."""

import json
import textwrap
from collections.abc import Collection, Sequence

import click

from ayb_jobs.checks.settings import (
    doubtful_job_types,
    jobs_disabled,
    noted_settings,
    unknown_job_types,
    unserved_queues,
)
from ayb_jobs.cli import output
from ayb_jobs.cli.exits import ExitCode
from ayb_jobs.cli.options import Options, common_options, daemon_options, json_option, pass_options
from ayb_jobs.cli.output import one_line, say
from ayb_jobs.cli.settings import settings
from ayb_jobs.config import Config
from ayb_jobs.config.display import as_json, as_toml
from ayb_jobs.config.reference import example as example_file
from ayb_jobs.errors import ConfigError
from ayb_jobs.handlers.packs import build_registry
from ayb_jobs.model.digits import shown_json
from ayb_jobs.storage.database import unreadable


@click.command("check-config")
@click.option("--example", is_flag=True, help="Print a file with every setting at its default instead.")
@daemon_options
@common_options
@json_option
@pass_options
@click.pass_context
def check_config(
    ctx: click.Context, options: Options, queues: str | None, concurrency: str | None, *, example: bool
) -> None:
    """Check the settings; print the effective ones, each with where it came from, secrets masked.

    Imports the handlers' modules and checks the parameters of SQL jobs, as the daemon does when it starts. The SQL
    itself is checked by the database, when a job runs. Exits with 78 if something is invalid, naming every fault. Warns
    of a schedule whose job type is not known here: another daemon may run it; of a program that this machine lacks;
    and of an address within a private network that is not allowed.
    """
    output.must_print()
    if example:
        click.echo(example_file(), nl=False)
        return
    try:
        config = settings(options, queues=queues, worker_concurrency=concurrency)
        check_addresses(config)
        types = build_registry(config).names()
        warnings = warnings_of(config, types)
    except ConfigError as error:
        if not options.json:
            raise
        click.echo(json.dumps({"valid": False, "problems": error.problems}, indent=2))
        ctx.exit(ExitCode.CONFIG)
    told = {"valid": True, "warnings": warnings, "jobTypes": types, "settings": as_json(config)}
    click.echo(shown_json(told) if options.json else f"{as_toml(config)}\n\n{job_types(types)}")
    for warning in warnings:
        say(one_line(f"ayb-jobs: warning: {warning}"))
    say(verdict(len(warnings)))


def check_addresses(config: Config) -> None:
    """Raise `ConfigError` for an address of a database that the daemon could not read."""
    given = {"database.url": config.database.url, "database.direct_url": config.database.direct_url}
    faults = {key: unreadable(address) for key, address in given.items() if address}
    if problems := [f"{key} {fault}" for key, fault in faults.items() if fault]:
        raise ConfigError(problems)


def warnings_of(config: Config, known: Collection[str]) -> list[str]:
    """Return what the checks find odd about the settings, each with what to do."""
    found = [
        *jobs_disabled(config),
        *unknown_job_types(config, known),
        *unserved_queues(config),
        *doubtful_job_types(config),
    ]
    return [*(note.fact for note in noted_settings(config)), *(f"{one.fact}; {one.remedy}" for one in found)]


def job_types(names: Sequence[str]) -> str:
    """Return a comment that names the job types that the daemon runs."""
    listed = ", ".join(map(one_line, names)) or "none"
    return textwrap.fill(f"Job types: {listed}", 100, initial_indent="# ", subsequent_indent="#   ")


def verdict(warnings: int) -> str:
    """Say in a sentence what came out."""
    if not warnings:
        return "All is well."
    return f"The daemon can start; {warnings} warning{'s' if warnings > 1 else ''}."
