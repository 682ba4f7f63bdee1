"""The handler that `ayb-jobs run` is measured with."""

from ayb_jobs.handlers.context import JobContext
from ayb_jobs.handlers.registry import Registry

registry = Registry()


@registry.handler("noop")
def noop(_context: JobContext) -> None:
    """Do nothing."""
