"""The handlers that `ayb-jobs run` is measured with."""

from ayb_jobs.handlers.context import JobContext
from ayb_jobs.handlers.registry import Registry

registry = Registry()


@registry.handler("noop")
def noop(_context: JobContext) -> None:
    """Do nothing."""


@registry.handler("hold")
def hold(context: JobContext) -> None:
    """Hold a job for so many seconds, and its lease with it."""
    context.stopping.wait(float(context.payload["seconds"]))
