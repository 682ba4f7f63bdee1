"""Retrying and cancelling: one job by its id, or all that match a filter."""

import sys
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import click

from ayb_jobs.cli import output
from ayb_jobs.cli.backend.backend import JobsBackend, open_jobs
from ayb_jobs.cli.commands.jobs.filtering import filter_of, is_given
from ayb_jobs.cli.commands.jobs.printing import STATES, print_change
from ayb_jobs.cli.options import Options
from ayb_jobs.cli.output import decoded
from ayb_jobs.errors import InvalidInput
from ayb_jobs.model.filters import Filter
from ayb_jobs.operations import bulk
from ayb_jobs.wire.jobs import bulk_text

F = TypeVar("F", bound=Callable[..., Any])
# Of a job, before and after.
WORDS = {
    "retry": ("failed", "queued again"),
    "cancel": ("queued", "canceled"),
    "cancel_running": ("running", "asked to end canceled"),
    "force_cancel": ("running", "canceled"),
}
DONE = {"retry": "retried", "cancel": "canceled", "cancel_running": "canceled", "force_cancel": "canceled"}
# Said of a job that --force could not end: when it can.
NOT_YET = "; --force ends it at once only when its daemon has not been heard of for a minute"


class Asked(NamedTuple):
    """What is to be done to many jobs, and how."""

    action: str
    state: str | None
    dry_run: bool
    yes: bool


def many_options(command: F) -> F:
    """Give a command the flags of a change of many jobs, beside those of the filter."""
    command = click.option("--dry-run", is_flag=True, help="Only count the jobs that match.")(command)
    command = click.option("--state", type=click.Choice(STATES), help="Only jobs in this state.")(command)
    return click.option("--yes", is_flag=True, help="Do not ask; needed if there is no terminal.")(command)


def change(
    options: Options,
    action: str,
    job_id: str | None,
    flags: dict[str, Any],
    change_one: Callable[[JobsBackend], str] | None = None,
) -> None:
    """Do what a command is asked to: to one job, by `change_one`, or to all that match the flags."""
    asked = Asked(action, state=flags.pop("state"), dry_run=flags.pop("dry_run"), yes=flags.pop("yes"))
    many = asked.state is not None or is_given(flags)
    before = WORDS[action][0]
    if many == (job_id is not None):
        wrong = "give a JOB-ID or a filter, not both" if many else "give a JOB-ID, or a filter such as --type"
        raise InvalidInput(f"{wrong}; --state {before} alone means all of them", field="job_id")
    if asked.state not in {None, before}:
        raise InvalidInput(f"--state is {asked.state}; only {before} jobs can be {DONE[action]}", field="state")
    with open_jobs(options) as backend:
        if change_one is None or job_id is None:
            change_many(options, backend, asked, filter_of(backend, flags))
            return
        text = change_one(backend)
    print_change(options, text, one_words(action, decoded(text)))


def one_words(action: str, job: dict[str, Any]) -> str:
    """Return what became of one job, to be filled in."""
    if action == "retry":
        return "{id} is {state} again"
    if job["state"] != "running":
        return "{id} is {state}"
    unforced = NOT_YET if action == "force_cancel" else ""
    return f"{{id}} is to end canceled, and runs until its handler has ended{unforced}"


def change_many(options: Options, backend: JobsBackend, asked: Asked, wanted: Filter) -> None:
    """Count what matches, have it confirmed, and change it."""
    action = asked.action
    counted = backend.change_jobs(action, wanted, dry_run=True)
    count = decoded(counted)["count"]
    before, after = WORDS[action]
    if asked.dry_run:
        show(options, counted, f"{how_many(count)} {before} and would be {after}")
        return
    if count and not asked.yes:
        confirm(action.partition("_")[0], f"{how_many(count)} {before}")
    changed = change_counted(backend, action, wanted, count)
    if (left := count - decoded(changed)["count"]) > 0:
        output.say(
            f"{left:,} stayed as they are: somebody holds them, another job has their unique key, or a trigger keeps them"
        )
    show(options, changed, f"{how_many(decoded(changed)['count'])} {after}")


def change_counted(backend: JobsBackend, action: str, wanted: Filter, count: int) -> str:
    """Change jobs until `count` of them are, or all were seen, each once: many may be kept as they are.

    What is made meanwhile adds a call at most, so that it ends however fast jobs are made.
    """
    changed, cursor = 0, ""
    for _ in range(bulk.most_calls(count) if count else 0):
        told = decoded(backend.change_jobs(action, wanted, dry_run=False, cursor=cursor))
        changed, cursor = changed + told["count"], told.get("nextCursor", "")
        if changed >= count or not cursor:
            break
    return bulk_text(action, count=changed, dry_run=False)


def confirm(action: str, found: str) -> None:
    """Ask whether to go on; raises `InvalidInput` if nobody can be asked, and ends the command on a no."""
    if not sys.stdin.isatty():
        raise InvalidInput(f"{found}; give --yes to {action} {it_or_them(found)}", field="yes")
    click.confirm(f"{found}. {action.capitalize()} {it_or_them(found)}?", abort=True, err=True)


def it_or_them(found: str) -> str:
    """Return the word for what `how_many` counted."""
    return "it" if found.startswith("1 job ") else "them"


def how_many(count: int) -> str:
    """Return a number of jobs, with its verb."""
    return "1 job is" if count == 1 else f"{count:,} jobs are"


def show(options: Options, text: str, words: str) -> None:
    """Print an answer as JSON, or in words."""
    if options.json:
        output.print_json(text)
    else:
        click.echo(words)
