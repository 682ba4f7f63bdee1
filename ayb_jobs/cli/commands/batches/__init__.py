"""`ayb-jobs batches`: look at batches; make, seal and cancel them."""

import click

from ayb_jobs.cli.lazy import Lazy, LazyGroup
from ayb_jobs.cli.options import backend_options

COMMANDS = {
    "list": Lazy("batches.commands:list_", "List batches.", ("ls", "ps", "all")),
    "show": Lazy("batches.commands:show", "Show how far a batch is.", ("get", "status", "describe", "progress")),
    "create": Lazy("batches.changes:create", "Make a batch, to add jobs to.", ("add", "make", "new", "open")),
    "seal": Lazy("batches.changes:seal", "Let a batch end once its jobs have.", ("close", "finish")),
    "cancel": Lazy("batches.changes:cancel", "Cancel the jobs of a batch.", ("stop", "abort", "kill")),
}


@click.group(cls=LazyGroup, table=COMMANDS)
@backend_options
def batches() -> None:
    """Look at batches; make, seal and cancel them."""
