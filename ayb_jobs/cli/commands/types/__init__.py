"""`ayb-jobs types`: look at job types; pause and resume them."""

import click

from ayb_jobs.cli.lazy import Lazy, LazyGroup
from ayb_jobs.cli.options import backend_options

COMMANDS = {
    "list": Lazy("types.commands:list_", "List job types.", ("ls", "ps", "all", "stats")),
    "pause": Lazy("types.commands:pause", "Keep jobs of a type from starting.", ("hold", "suspend", "disable")),
    "resume": Lazy(
        "types.commands:resume", "Let jobs of a type start again.", ("unpause", "start", "continue", "enable")
    ),
}


@click.group(cls=LazyGroup, table=COMMANDS)
@backend_options
def types() -> None:
    """Look at job types; pause and resume them."""
