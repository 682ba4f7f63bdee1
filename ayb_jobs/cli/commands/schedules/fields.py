"""The flags that stand for a schedule's fields."""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import Any, TypeVar

import click

from ayb_jobs.cli.values import DURATION, JSON, WholeNumber
from ayb_jobs.model.schedules.schedule import NewSchedule
from ayb_jobs.wire.names import api_name

F = TypeVar("F", bound=Callable[..., Any])

# Flags of durations: without the unit that the field's name has.
FIELDS: Mapping[str, str] = {
    "catchup_window": "catchup_window_s",
    "jitter": "jitter_s",
    "timeout": "timeout_s",
    "expect_success_within": "expect_success_within_s",
}


# What a schedule gets that `create` is told nothing of; the others have no value of their own then.
DEFAULTS: Mapping[str, Any] = {each.name: each.default for each in fields(NewSchedule) if each.default is not MISSING}


def schedule_options(*, defaults: bool) -> Callable[[F], F]:
    """Give a command a flag for each field of a schedule besides its name, job type and timing.

    With `defaults`, the help says what a field is if its flag is not given.
    """

    def flag(name: str, words: str, **settings: Any) -> Callable[[Any], Any]:
        default = DEFAULTS.get(FIELDS.get(name, name))
        value = f"{default:.0f}s" if isinstance(default, float) else default
        shown = f"  [default: {value}]" if defaults and default else ""
        return click.option(f"--{name.replace('_', '-')}", help=words + shown, **settings)

    options = [
        flag("timezone", "The IANA time zone of CRON.", metavar="ZONE"),
        flag("payload", "What its jobs are given: JSON, @FILE, or -.", type=JSON, metavar="JSON"),
        flag("queue", "The queue of its jobs.", metavar="QUEUE"),
        flag("priority", "The priority of its jobs; 1 goes first.", type=WholeNumber(1, 4)),
        flag("max_attempts", "How often each job may be tried.", type=WholeNumber(1)),
        flag("catchup", "What becomes of missed fires.", type=click.Choice(["latest", "all", "skip"])),
        flag("catchup_max", "With --catchup all: the most jobs made at once.", type=WholeNumber(1, 1000)),
        flag("catchup_window", "With --catchup all: no fire older than this.", type=DURATION, metavar="TIME"),
        flag(
            "overlap",
            "What a fire does while an earlier job has not ended.",
            type=click.Choice(["allow", "skip", "queue_one", "cancel_running"]),
        ),
        flag(
            "dst",
            "What a fixed hour does when clocks skip or repeat it.",
            type=click.Choice(["once", "skip", "both"]),
        ),
        flag("jitter", "Spread its jobs over so long: 90s, 15m.", type=DURATION, metavar="TIME"),
        flag("timeout", "How long one run may take.", type=DURATION, metavar="TIME"),
        flag(
            "expect_success_within",
            "It is overdue if no job succeeded for so long.",
            type=DURATION,
            metavar="TIME",
        ),
        flag("ping_url", "A healthchecks-style address of its own.", metavar="URL"),
    ]

    def decorate(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def body_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was given as the API's fields; an empty time zone is none, as in AYB."""
    return {
        api_name(FIELDS.get(flag, flag)): value
        for flag, value in given.items()
        if value is not None and (flag, value) != ("timezone", "")
    }
