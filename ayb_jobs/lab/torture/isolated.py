"""The job of a torture run that has a process of its own; a module for itself, since each daemon imports it anew."""

from ayb_jobs.handlers.context import JobContext
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.lab.torture.effects import noted

registry = Registry()

ISOLATED = "torture_isolated"
MODULE = __name__


@registry.handler(ISOLATED, isolation="process")
def work(context: JobContext) -> None:
    """Take as long as the payload says, in a process of its own, and end early when asked to."""
    with noted(context):
        context.stopping.wait(context.payload.get("s", 0))
        context.check()
