"""`ayb-jobs check-config`: what the daemon would run with, and where each setting came from."""

import json
import os

import click

from ayb_jobs.cli.exits import ExitCode
from ayb_jobs.cli.options import Options, common_options, json_option, pass_options
from ayb_jobs.config import load_config
from ayb_jobs.config.display import as_json, as_toml
from ayb_jobs.config.reference import example as example_file
from ayb_jobs.errors import ConfigError


@click.command("check-config", short_help="Check the settings and show where each came from.")
@click.option("--example", is_flag=True, help="Print a file with every setting at its default instead.")
@common_options
@json_option
@pass_options
@click.pass_context
def check_config(ctx: click.Context, options: Options, *, example: bool) -> None:
    """Check the settings; print the effective ones, each with where it came from, secrets masked.

    Exits with 78 where they are invalid, naming every fault.
    """
    if example:
        click.echo(example_file(), nl=False)
        return
    try:
        config = load_config(options.config, os.environ, {"database.url": options.database_url})
    except ConfigError as error:
        if not options.json:
            raise
        click.echo(json.dumps({"valid": False, "problems": error.problems}, indent=2))
        ctx.exit(ExitCode.CONFIG)
    told = {"valid": True, "settings": as_json(config)}
    click.echo(json.dumps(told, indent=2) if options.json else as_toml(config))
