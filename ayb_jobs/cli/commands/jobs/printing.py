"""How the commands about jobs print."""

import click

from ayb_jobs.cli import output
from ayb_jobs.cli.options import Options
from ayb_jobs.cli.output import decoded

STATE_STYLES = {
    "queued": "cyan",
    "running": "blue",
    "completed": "green",
    "failed": "red",
    "canceled": "yellow",
}
STATES = list(STATE_STYLES)


def print_change(options: Options, text: str, words: str) -> None:
    """Print what became of a job."""
    if options.json:
        output.print_json(text)
    else:
        job = decoded(text)
        click.echo(f"job {words.format(id=job['id'], state=job['state'])}")
