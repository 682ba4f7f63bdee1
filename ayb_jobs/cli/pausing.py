"""The commands that `queues` and `types` have alike: list, pause, resume."""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import click

from ayb_jobs.cli import output
from ayb_jobs.cli.backend.backend import PausesBackend, open_pauses
from ayb_jobs.cli.options import Options, backend_options, pass_options
from ayb_jobs.cli.output import Column, decoded
from ayb_jobs.cli.values import DURATION, MOMENT
from ayb_jobs.errors import Conflict
from ayb_jobs.model.pauses import NewPause, PauseKind

# How often daemons are asked whether they have confirmed, and jobs whether they have ended.
ASK_S = 0.1
WAIT_S = 60.0


def list_command(kind: PauseKind) -> click.Command:
    """Return the command that lists queues or types."""

    @click.command("list", help=f"List {kind}s: what waits, what runs, and what is paused since when.")
    @backend_options
    @pass_options
    def list_(options: Options) -> None:
        output.must_print()
        with open_pauses(options) as backend:
            text = backend.list_pausable(kind)
            when = output.when_for(options, backend)
        if options.json:
            output.print_page(options, text)
            return
        print_pausable(options, decoded(text)["items"], when)

    return list_


def pause_command(kind: PauseKind) -> click.Command:
    """Return the command that pauses a queue or a type."""

    @click.command(
        "pause", help=f"Pause a {kind}: from the command's end on none of its jobs starts. What runs goes on."
    )
    @click.argument("name")
    @click.option("--reason", metavar="TEXT", help="Why; shown wherever the pause is.")
    @click.option("--until", type=MOMENT, metavar="WHEN", help="End by itself: in 2h, or at an instant.")
    @click.option("--drain", is_flag=True, help="Wait until what runs has ended, too.")
    @click.option(
        "--wait",
        "wait_s",
        type=DURATION,
        metavar="TIME",
        default=WAIT_S,
        help="Wait for daemons so long; 60s if not given.",
    )
    @backend_options
    @pass_options
    def pause(options: Options, name: str, reason: str | None, until: Any, wait_s: float, *, drain: bool) -> None:
        with open_pauses(options) as backend:
            at = backend.now() + until if isinstance(until, timedelta) else until
            text = backend.pause(NewPause(kind=kind, name=name, reason=reason, until=at))
            text = waited(backend, kind, name, text, wait_s, drain=drain)
        print_one(options, text, f"{kind} {{name}} is paused; {{running}} of its jobs run")

    return pause


def resume_command(kind: PauseKind) -> click.Command:
    """Return the command that resumes a queue or a type."""

    @click.command("resume", help=f"Resume a {kind}: its jobs start again.")
    @click.argument("name")
    @backend_options
    @pass_options
    def resume(options: Options, name: str) -> None:
        with open_pauses(options) as backend:
            text = backend.resume(kind, name)
        print_one(options, text, f"{kind} {{name}} is resumed; {{due}} jobs are due")

    return resume


def waited(backend: PausesBackend, kind: PauseKind, name: str, text: str, wait_s: float, *, drain: bool) -> str:
    """Wait until every live daemon has confirmed a pause, and with `drain` until nothing of it runs; return the end.

    Raises `Conflict`, which names whom it waits for, when the time is over. The pause stands all the same.
    """
    give_up = time.monotonic() + wait_s
    told = ""
    while missing := still_missing(decoded(text), drain=drain):
        if time.monotonic() >= give_up:
            raise Conflict(f"the {kind} {name} is paused, but {missing}, after {wait_s:g} s")
        if missing != told:
            output.say(f"waiting: {missing}")
            told = missing
        time.sleep(ASK_S)
        text = backend.get_pausable(kind, name)
    return text


def still_missing(seen: dict[str, Any], *, drain: bool) -> str:
    """Say what a pause still waits for; nothing if it is in force."""
    if not seen.get("paused"):
        return ""  # somebody has resumed it
    if daemons := seen["waitingFor"]:
        return f"these daemons have not confirmed it: {', '.join(daemons)}"
    return f"{seen['running']} of its jobs still run" if drain and seen["running"] else ""


def print_one(options: Options, text: str, words: str) -> None:
    """Print a queue or a type as it is now."""
    if options.json:
        output.print_json(text)
        return
    if options.output == "csv":
        print_pausable(options, [decoded(text)], str)
        return
    seen = decoded(text)
    click.echo(words.format(name=output.one_line(seen["name"]), running=seen["running"], due=seen["due"]))


def print_pausable(options: Options, found: list[dict[str, Any]], when: Callable[[str], str]) -> None:
    """Print queues or types as a table."""
    columns = [
        Column(title="NAME", key=True),
        Column(title="DUE", right=True),
        Column(title="RUNNING", right=True),
        Column(title="DAEMONS", right=True),
        Column(title="PAUSED"),
        Column(title="UNTIL"),
        Column(title="BY"),
        Column(title="REASON", flexible=True),
    ]
    rows = [
        [one["name"], str(one["due"]), str(one["running"]), str(one["daemons"]), *_pause_of(one, when)] for one in found
    ]
    styles = ["yellow" if one.get("paused") else "" for one in found]
    output.print_table(columns, rows, styles, form=options.output)


def _pause_of(one: dict[str, Any], when: Callable[[str], str]) -> list[str]:
    paused = one.get("paused")
    if not paused:
        return [""] * 4
    until = paused.get("until")
    return [when(paused["since"]), when(until) if until else "", paused["by"], paused.get("reason", "")]
