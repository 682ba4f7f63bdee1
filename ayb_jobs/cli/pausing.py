"""The commands that `queues`, `types` and `keys` have alike: list, pause, resume."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import click

from ayb_jobs.cli import output
from ayb_jobs.cli.backend.backend import PausesBackend, open_pauses
from ayb_jobs.cli.confirming import await_confirmation, unconfirmed, wait_option
from ayb_jobs.cli.options import Options, backend_options, pass_options
from ayb_jobs.cli.output import Column, decoded
from ayb_jobs.cli.values import MOMENT
from ayb_jobs.model.names import did_you_mean
from ayb_jobs.model.pauses import NewPause, PauseKind
from ayb_jobs.model.words import count_words

# What became of a queue, a type or a key, to be filled in.
PAUSED = "{kind} {name} is paused; {running} of its jobs run"
RESUMED_MEANWHILE = "{kind} {name} is not paused: somebody resumed it meanwhile"
RESUMED = "{kind} {name} is resumed; {due_words} due"
ARGUMENTS = {PauseKind.QUEUE: "NAME", PauseKind.TYPE: "NAME", PauseKind.KEY: "LIMIT/KEY"}


def list_command(kind: PauseKind) -> click.Command:
    """Return the command that lists queues, types or keys."""

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
        output.say_if_more(text, f"{kind}s")

    return list_


def pause_command(kind: PauseKind) -> click.Command:
    """Return the command that pauses a queue, a type or a key."""

    @click.command(
        "pause", help=f"Pause a {kind}: from the command's end on none of its jobs starts. What runs goes on."
    )
    @click.argument("name", metavar=ARGUMENTS[kind])
    @click.option("--reason", metavar="TEXT", help="Why; shown wherever the pause is.")
    @click.option("--until", type=MOMENT, metavar="WHEN", help="End by itself: in 2h, or at an instant.")
    @click.option("--drain", is_flag=True, help="Wait until what runs has ended, too.")
    @wait_option
    @backend_options
    @pass_options
    def pause(options: Options, name: str, reason: str | None, until: Any, wait_s: float, *, drain: bool) -> None:
        with open_pauses(options) as backend:
            at = backend.now() + until if isinstance(until, timedelta) else until
            text = backend.pause(NewPause(kind=kind, name=name, reason=reason, until=at))
            text = await_confirmation(
                text,
                lambda: backend.get_pausable(kind, name),
                lambda seen: still_missing(seen, drain=drain),
                stands=f"the {kind} {name} is paused",
                wait_s=wait_s,
            )
            warn_of_unknown(backend, kind, decoded(text))
        print_one(options, text, PAUSED if decoded(text).get("paused") else RESUMED_MEANWHILE, kind)

    return pause


def resume_command(kind: PauseKind) -> click.Command:
    """Return the command that resumes a queue, a type or a key."""

    @click.command("resume", help=f"Resume a {kind}: its jobs start again.")
    @click.argument("name", metavar=ARGUMENTS[kind])
    @backend_options
    @pass_options
    def resume(options: Options, name: str) -> None:
        with open_pauses(options) as backend:
            text = backend.resume(kind, name)
        print_one(options, text, RESUMED, kind)

    return resume


def warn_of_unknown(backend: PausesBackend, kind: PauseKind, seen: dict[str, Any]) -> None:
    """Say on stderr if daemons are alive, none of them has what was paused, and no job of it is there."""
    if seen["daemons"] or seen["due"] or seen["running"]:
        return
    known = {one["name"] for one in decoded(backend.list_pausable(kind))["items"] if one["daemons"]}
    if known:
        meant = did_you_mean(seen["name"], known)
        words = f"no live daemon has the {kind} {seen['name']}, and no job of it waits{meant}"
        output.say(output.one_line(f"ayb-jobs: warning: {words}"))


def still_missing(seen: dict[str, Any], *, drain: bool) -> str:
    """Say what a pause still waits for; nothing if it is in force."""
    if not seen.get("paused"):
        return ""  # somebody has resumed it
    if seen["waitingFor"]:
        return unconfirmed(seen["waitingFor"])
    return f"{seen['running']} of its jobs still run" if drain and seen["running"] else ""


def print_one(options: Options, text: str, words: str, kind: PauseKind) -> None:
    """Print a queue, a type or a key as it is now."""
    if options.json:
        output.print_json(text)
        return
    if options.output == "csv":
        print_pausable(options, [decoded(text)], str)
        return
    click.echo(filled_in(words, kind, decoded(text)))


def filled_in(words: str, kind: PauseKind, seen: dict[str, Any]) -> str:
    """Return what became of a queue, a type or a key, filled in from its answer."""
    due = f"{count_words(seen['due'], 'job', cut=seen['atLeast'])} {'is' if seen['due'] == 1 else 'are'}"
    return words.format(kind=kind, name=output.one_line(seen["name"]), running=seen["running"], due_words=due)


def print_pausable(options: Options, found: list[dict[str, Any]], when: Callable[[str], str]) -> None:
    """Print queues, types or keys as a table."""
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
        [one["name"], output.so_many(one["due"], one), str(one["running"]), str(one["daemons"]), *_pause_of(one, when)]
        for one in found
    ]
    styles = ["yellow" if one.get("paused") else "" for one in found]
    output.print_table(columns, rows, styles, form=options.output)


def _pause_of(one: dict[str, Any], when: Callable[[str], str]) -> list[str]:
    paused = one.get("paused")
    if not paused:
        return [""] * 4
    until = paused.get("until")
    return [when(paused["since"]), when(until) if until else "", paused["by"], paused.get("reason", "")]
