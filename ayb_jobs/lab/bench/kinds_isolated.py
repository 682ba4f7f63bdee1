"""The isolated handlers that are measured; apart, since a daemon that has any begins processes for them."""

from ayb_jobs.handlers.context import JobContext
from ayb_jobs.handlers.registry import Registry

registry = Registry()
STEPS = 100_000


def compute(_: object = None) -> None:
    """Take some hundredths of a second of one processor."""
    total = 0
    for number in range(STEPS):
        total += number * number


@registry.handler("empty_isolated", isolation="process")
def empty_isolated(_context: JobContext) -> None:
    """Do nothing in a process of its own."""


@registry.handler("computing", isolation="process")
def computing(_context: JobContext) -> None:
    """Compute in a process of its own."""
    compute()
