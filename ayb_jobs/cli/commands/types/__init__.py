"""`ayb-jobs types`: look at job types; pause and resume them."""

import click

from ayb_jobs.cli.lazy import LazyGroup
from ayb_jobs.cli.options import backend_options
from ayb_jobs.cli.pausing_table import pausing_commands

COMMANDS = pausing_commands("types", all_="job types", one="a type")


@click.group(cls=LazyGroup, table=COMMANDS)
@backend_options
def types() -> None:
    """Look at job types; pause and resume them."""
