"""The flags that stand for a schedule's fields."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from ayb_jobs.cli.values import DURATION, JSON, WholeNumber
from ayb_jobs.wire.names import api_name

F = TypeVar("F", bound=Callable[..., Any])

# Flags of durations: without the unit that the field's name has.
FIELDS: Mapping[str, str] = {
    "jitter": "jitter_s",
    "timeout": "timeout_s",
    "expect_success_within": "expect_success_within_s",
}


def schedule_options(command: F) -> F:
    """Give a command a flag for each field of a schedule besides its name, job type and timing."""
    options: list[Callable[[Any], Any]] = [
        click.option("--timezone", metavar="ZONE", help="The IANA time zone of the cron expression, such as UTC."),
        click.option("--payload", type=JSON, metavar="JSON", help="What its jobs are given: JSON, @FILE, or -."),
        click.option("--queue", metavar="QUEUE", help="The queue of its jobs."),
        click.option("--priority", type=WholeNumber(1, 4), help="The priority of its jobs; 1 goes first."),
        click.option("--max-attempts", type=WholeNumber(1), help="How often each job may be tried."),
        click.option("--catchup", type=click.Choice(["latest", "all", "skip"]), help="What becomes of missed fires."),
        click.option(
            "--overlap",
            type=click.Choice(["allow", "skip", "queue_one", "cancel_running"]),
            help="What a fire does while an earlier job has not ended.",
        ),
        click.option(
            "--dst",
            type=click.Choice(["once", "skip", "both"]),
            help="What a fixed hour does when clocks skip or repeat it.",
        ),
        click.option("--jitter", type=DURATION, metavar="TIME", help="Spread its jobs over so long: 90s, 15m."),
        click.option("--timeout", type=DURATION, metavar="TIME", help="How long one run may take."),
        click.option(
            "--expect-success-within", type=DURATION, metavar="TIME", help="Overdue once no job succeeded for so long."
        ),
        click.option("--ping-url", metavar="URL", help="A healthchecks-style address of its own."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def body_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was given as the API's fields; an empty time zone is none, as in AYB."""
    return {
        api_name(FIELDS.get(flag, flag)): value
        for flag, value in given.items()
        if value is not None and (flag, value) != ("timezone", "")
    }
