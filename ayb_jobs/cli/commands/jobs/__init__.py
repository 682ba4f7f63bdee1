"""`ayb-jobs jobs`: look at jobs; enqueue, retry and cancel them."""

import click

from ayb_jobs.cli.lazy import Lazy, LazyGroup
from ayb_jobs.cli.options import backend_options

COMMANDS = {
    "list": Lazy("jobs.list:list_", "List jobs, the newest first."),
    "show": Lazy("jobs.show:show", "Show one job and its attempts."),
    "stats": Lazy("jobs.stats:stats", "Count jobs by state."),
    "enqueue": Lazy("jobs.enqueue:enqueue", "Put a job into the queue."),
    "retry": Lazy("jobs.retry:retry", "Queue a failed job again."),
    "cancel": Lazy("jobs.cancel:cancel", "Cancel a queued job."),
}


@click.group(cls=LazyGroup, table=COMMANDS)
@backend_options
def jobs() -> None:
    """Look at jobs; enqueue, retry and cancel them."""
