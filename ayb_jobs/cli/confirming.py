"""Waiting until all live daemons have confirmed what an operator asked for."""

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from ayb_jobs.cli import output
from ayb_jobs.cli.output import decoded
from ayb_jobs.cli.values import DURATION
from ayb_jobs.errors import Conflict

F = TypeVar("F", bound=Callable[..., Any])
# How often daemons are asked whether they have confirmed, and jobs whether they have ended.
ASK_S = 0.1
WAIT_S = 60.0
# Daemons confirm within a fraction of this; what takes longer is told.
TELL_S = 1.0


def wait_option(command: F) -> F:
    """Give a command the flag that says how long to wait, as `wait_s`."""
    return click.option(
        "--wait",
        "wait_s",
        type=DURATION,
        metavar="TIME",
        default=WAIT_S,
        help="Wait for daemons so long; 60s if not given.",
    )(command)


def await_confirmation(
    text: str, ask: Callable[[], str], missing: Callable[[dict[str, Any]], str], *, stands: str, wait_s: float
) -> str:
    """Ask again until nothing is missing in the answer, of which `text` is the first; return the last one.

    Raises `Conflict`, which says what `stands` all the same and what is missing, when the time is over.
    """
    began = time.monotonic()
    told = ""
    while left := missing(decoded(text)):
        if time.monotonic() >= began + wait_s:
            raise Conflict(f"{stands}, but {left}, after {wait_s:g} s")
        if left != told and time.monotonic() >= began + TELL_S:
            output.say(f"waiting: {left}")
            told = left
        time.sleep(ASK_S)
        text = ask()
    return text


def unconfirmed(daemons: Sequence[str]) -> str:
    """Say which daemons have not confirmed; nothing if all have."""
    return f"these daemons have not confirmed it: {', '.join(daemons)}" if daemons else ""
