"""`ayb-jobs limits list`, `set` and `remove`."""

from typing import Any

import click

from ayb_jobs.cli import output
from ayb_jobs.cli.backend.backend import open_limits
from ayb_jobs.cli.confirming import await_confirmation, unconfirmed, wait_option
from ayb_jobs.cli.options import Options, backend_options, pass_options
from ayb_jobs.cli.output import Column, decoded
from ayb_jobs.cli.values import WholeNumber
from ayb_jobs.model.limits import MOST, NewLimit, limit_words
from ayb_jobs.model.words import count_words
from ayb_jobs.wire.limits import FIELDS


@click.command("list")
@backend_options
@pass_options
def list_(options: Options) -> None:
    """List limits: what each allows, and what waits and runs under it."""
    output.must_print()
    with open_limits(options) as backend:
        text = backend.list_limits()
    if options.json:
        output.print_page(options, text)
        return
    print_limits(options, decoded(text)["items"])


@click.command("set")
@click.argument("name")
@click.option("--type", "types", multiple=True, required=True, metavar="TYPE", help="A job type; may be repeated.")
@click.option("--max-running", type=WholeNumber(0, MOST), help="How many of its jobs run at once.")
@click.option("--key-max-running", type=WholeNumber(0, MOST), help="How many of one key run at once.")
@click.option("--rate", metavar="RATE", help="How many start in a time: 5/s, 100/min, 1000/h, 1/15min.")
@click.option("--burst", type=WholeNumber(1, MOST), default=1, help="How many of them at once; 1 if not given.")
@click.option("--key-rate", metavar="RATE", help="How many of one key start in a time.")
@click.option("--key-burst", type=WholeNumber(1, MOST), default=1, help="How many of them at once; 1 if not given.")
@click.option("--key-field", metavar="FIELD", help="The field of the payload that is a job's key.")
@wait_option
@backend_options
@pass_options
def set_(options: Options, /, name: str, wait_s: float, **asked: Any) -> None:
    """Make the limit NAME, or change it: from the command's end on every start obeys it. What runs goes on."""
    new = NewLimit(name=name, **asked)
    with open_limits(options) as backend:
        before = [one for one in decoded(backend.list_limits())["items"] if one["name"] == name]
        text = await_confirmation(
            backend.set_limit(new),
            lambda: backend.get_limit(name),
            lambda limit: unconfirmed(limit["waitingFor"]),
            stands=f"the limit {name} is set",
            wait_s=wait_s,
        )
    print_one(options, text, "limit {name} is set: {allows}")
    if before and before[0].get("keyField") != new.key_field:
        warn_of_kept_keys(decoded(text))


def warn_of_kept_keys(seen: dict[str, Any]) -> None:
    """Say on stderr how many jobs keep the keys that they got from the key field before."""
    if not seen["waiting"]:
        return
    waiting, cut = seen["waiting"], seen["atLeast"]
    jobs = count_words(waiting, "job that waits keeps its key", "jobs that wait keep their keys", cut=cut)
    remedy = "the new key field is for jobs that come; to have it hold for all, remove the limit and set it again"
    output.say(output.one_line(f"ayb-jobs: warning: {jobs}: {remedy}"))


@click.command("remove")
@click.argument("name")
@backend_options
@pass_options
def remove(options: Options, name: str) -> None:
    """Remove the limit NAME: what waits under it waits as other jobs do."""
    with open_limits(options) as backend:
        text = backend.remove_limit(name)
    print_one(options, text, "limit {name} is removed")


def print_one(options: Options, text: str, words: str) -> None:
    """Print a limit as it is now."""
    if options.json:
        output.print_json(text)
        return
    if options.output == "csv":
        print_limits(options, [decoded(text)])
        return
    seen = decoded(text)
    click.echo(words.format(name=output.one_line(seen["name"]), allows=allowed(seen)))


def allowed(seen: dict[str, Any]) -> str:
    """Say what a limit allows."""
    return limit_words({field: seen.get(key, 1 if field.endswith("burst") else None) for key, field in FIELDS.items()})


def print_limits(options: Options, found: list[dict[str, Any]]) -> None:
    """Print limits as a table."""
    columns = [
        Column(title="NAME", key=True),
        Column(title="ALLOWS"),
        Column(title="KEY"),
        Column(title="WAITING", right=True),
        Column(title="RUNNING", right=True),
        Column(title="TOKENS", right=True),
        Column(title="NOT YET CONFIRMED BY"),
        Column(title="TYPES", flexible=True),
    ]
    rows = [
        [
            one["name"], allowed(one), one.get("keyField", ""), output.so_many(one["waiting"], one), str(one["running"]),
            str(one.get("tokens", "")), ", ".join(one["waitingFor"]), ", ".join(one["types"]),
        ]
        for one in found
    ]  # fmt: skip
    output.print_table(columns, rows, ["yellow" if one["waitingFor"] else "" for one in found], form=options.output)
