"""`ayb-jobs keys`: look at the keys of limits; pause and resume them."""

import click

from ayb_jobs.cli.lazy import Lazy, LazyGroup
from ayb_jobs.cli.options import backend_options

COMMANDS = {
    "list": Lazy("keys.commands:list_", "List keys of limits.", ("ls", "ps", "all", "stats")),
    "pause": Lazy("keys.commands:pause", "Keep jobs of a key from starting.", ("hold", "suspend", "disable")),
    "resume": Lazy(
        "keys.commands:resume", "Let jobs of a key start again.", ("unpause", "start", "continue", "enable")
    ),
}


@click.group(cls=LazyGroup, table=COMMANDS)
@backend_options
def keys() -> None:
    """Look at the keys of limits, named LIMIT/KEY; pause and resume them."""
