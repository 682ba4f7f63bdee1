"""`ayb-jobs check-config`: what the daemon would run with, and where each setting came from."""

import json
import os
from pathlib import Path

import click

from ayb_jobs.config import load_config
from ayb_jobs.config.display import as_json, as_toml
from ayb_jobs.config.reference import example as example_file
from ayb_jobs.errors import ConfigError

EXIT_CONFIG = 78


@click.command("check-config", short_help="Check the settings and show where each came from.")
@click.option("--config", "path", type=click.Path(path_type=Path), help="The file to check, in place of the usual one.")
@click.option("--json", "json_", is_flag=True, help="Print one JSON object, for programs.")
@click.option("--example", is_flag=True, help="Print a file with every setting at its default instead.")
@click.pass_context
def check_config(ctx: click.Context, path: Path | None, *, json_: bool, example: bool) -> None:
    """Check the settings; print the effective ones, each with where it came from, secrets masked.

    Exits with 78 where they are invalid, naming every fault.
    """
    if example:
        click.echo(example_file(), nl=False)
        return
    try:
        config = load_config(path or ctx.find_root().params.get("config"), os.environ, {})
    except ConfigError as error:
        if not json_:
            raise
        click.echo(json.dumps({"valid": False, "problems": error.problems}, indent=2))
        ctx.exit(EXIT_CONFIG)
    click.echo(json.dumps({"valid": True, "settings": as_json(config)}, indent=2) if json_ else as_toml(config))
