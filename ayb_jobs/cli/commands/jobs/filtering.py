"""The flags that say which jobs are meant."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import click

from ayb_jobs.cli.output import Clock
from ayb_jobs.cli.values import MOMENT
from ayb_jobs.errors import InvalidInput
from ayb_jobs.model.filters import Filter

F = TypeVar("F", bound=Callable[..., Any])

FLAGS = (
    click.option("--type", metavar="TYPE", help="Only jobs of this type."),
    click.option("--queue", metavar="QUEUE", help="Only jobs in this queue."),
    click.option("--since", type=MOMENT, metavar="WHEN", help="Only jobs enqueued since: 2h ago, or an instant."),
    click.option("--until", type=MOMENT, metavar="WHEN", help="Only jobs enqueued before: 2h ago, or an instant."),
    click.option("--key", metavar="KEY", help="Only the job with this idempotency key."),
    click.option("--batch", "batch_id", metavar="BATCH-ID", help="Only members of this batch."),
    click.option("--error", metavar="TEXT", help="Only jobs whose last error holds this text, in any case."),
)


def filter_options(command: F) -> F:
    """Give a command the flags of a filter."""
    for flag in reversed(FLAGS):
        command = flag(command)
    return command


def is_given(flags: dict[str, Any]) -> bool:
    """Tell whether any flag of a filter was given."""
    return any(value is not None for value in flags.values())


def filter_of(clock: Clock, flags: dict[str, Any]) -> Filter:
    """Return the filter that the flags make. Spans count back from the database's now.

    Raises `InvalidInput` for an empty text: a variable that is not set must not widen what a change is made to.
    """
    asked = dict(flags)
    if empty := next((name for name, value in asked.items() if value == ""), None):
        flag = "--" + empty.removesuffix("_id")
        raise InvalidInput(f"{flag} is empty; leave it out, or say which jobs are meant", field=empty)
    if any(isinstance(value, timedelta) for value in asked.values()):
        now = clock.now()
        asked |= {name: now - value for name, value in asked.items() if isinstance(value, timedelta)}
    return Filter(**asked)
