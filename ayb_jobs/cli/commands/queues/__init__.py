"""`ayb-jobs queues`: look at queues; pause and resume them."""

import click

from ayb_jobs.cli.lazy import LazyGroup
from ayb_jobs.cli.options import backend_options
from ayb_jobs.cli.pausing_table import pausing_commands

COMMANDS = pausing_commands("queues", all_="queues", one="a queue")


@click.group(cls=LazyGroup, table=COMMANDS)
@backend_options
def queues() -> None:
    """Look at queues; pause and resume them."""
