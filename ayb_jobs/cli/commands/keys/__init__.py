"""`ayb-jobs keys`: look at the keys of limits; pause and resume them."""

import click

from ayb_jobs.cli.lazy import LazyGroup
from ayb_jobs.cli.options import backend_options
from ayb_jobs.cli.pausing_table import pausing_commands

COMMANDS = pausing_commands("keys", all_="keys of limits", one="a key")


@click.group(cls=LazyGroup, table=COMMANDS)
@backend_options
def keys() -> None:
    """Look at the keys of limits, named LIMIT/KEY; pause and resume them."""
