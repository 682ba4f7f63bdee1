"""`ayb-jobs queues`: look at queues; pause and resume them."""

import click

from ayb_jobs.cli.lazy import Lazy, LazyGroup
from ayb_jobs.cli.options import backend_options

COMMANDS = {
    "list": Lazy("queues.commands:list_", "List queues.", ("ls", "ps", "all", "stats")),
    "pause": Lazy("queues.commands:pause", "Keep jobs of a queue from starting.", ("hold", "suspend", "disable")),
    "resume": Lazy(
        "queues.commands:resume", "Let jobs of a queue start again.", ("unpause", "start", "continue", "enable")
    ),
}


@click.group(cls=LazyGroup, table=COMMANDS)
@backend_options
def queues() -> None:
    """Look at queues; pause and resume them."""
