"""`ayb-jobs limits`: look at limits; set and remove them."""

import click

from ayb_jobs.cli.lazy import Lazy, LazyGroup
from ayb_jobs.cli.options import backend_options

COMMANDS = {
    "list": Lazy("limits.commands:list_", "List limits.", ("ls", "ps", "all", "show")),
    "set": Lazy("limits.commands:set_", "Make a limit, or change one.", ("add", "create", "update", "put")),
    "remove": Lazy("limits.commands:remove", "Remove a limit.", ("rm", "delete", "del", "unset")),
}


@click.group(cls=LazyGroup, table=COMMANDS)
@backend_options
def limits() -> None:
    """Look at limits; set and remove them."""
