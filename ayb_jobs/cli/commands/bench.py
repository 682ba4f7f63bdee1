"""`ayb-jobs bench`: measure the daemon on this machine."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict

import click

from ayb_jobs.cli import output
from ayb_jobs.cli.options import Options, common_options, json_option, pass_options
from ayb_jobs.cli.stopping import end_as_by_ctrl_c
from ayb_jobs.cli.values import WholeNumber
from ayb_jobs.lab.bench.scratch import Bench, server
from ayb_jobs.lab.bench.works import WORKS as MEASURES

# Named here too, so that help and completion need not import what measures.
WORKS = (
    "drain", "waiting", "enqueue", "latency", "deep", "reads", "pinned", "watched", "daemons", "queues", "idle", "cleanup",
    "retention", "schedules", "kinds",
)  # fmt: skip
THREE_DIGITS = 100


@click.command
@click.argument("works", nargs=-1, metavar="[WORK]...", type=click.Choice(WORKS))
@click.option("--jobs", default=20_000, show_default=True, type=WholeNumber(10), help="Jobs in one round.")
@click.option(
    "--rows",
    default=300_000,
    show_default=True,
    type=WholeNumber(10),
    help="Rows in the tables of deep, reads, watched, queues, cleanup and retention.",
)
@click.option("--rounds", default=3, show_default=True, type=WholeNumber(1), help="How often each side is measured.")
@json_option
@common_options
@pass_options
def bench(options: Options, works: tuple[str, ...], jobs: int, rows: int, rounds: int) -> None:
    """Measure the daemon on this machine, each figure beside a bare loop: the same SQL with nothing around it.

    WORK is any of drain, waiting, enqueue, latency, deep, reads, pinned, watched, daemons, queues, idle, cleanup,
    retention, schedules and kinds; without one, all are measured. The ratio beside each figure is what can be compared
    between machines.

    Without --database-url an embedded PostgreSQL is made for it and removed. On a server that is named, each round
    makes a database of its own and drops it; the named database itself is not touched.
    """
    output.must_print()
    end_as_by_ctrl_c()
    if not options.json:
        click.echo(f"{'WORK':9} {'FIGURE':44} {'VALUE':>10} {'':7} {'BESIDE':>10} {'RATIO':>6}  OF")
    with telling() as tell:
        tell("starting PostgreSQL")
        with server(options.database_url) as url:
            place = Bench(server_url=url, jobs=jobs, rows=rows, rounds=rounds, tell=tell)
            for work in works or WORKS:
                for figure in MEASURES[work](place):
                    tell("")
                    click.echo(
                        json.dumps(asdict(figure))
                        if options.json
                        else f"{figure.work:9} {figure.name:44} {number(figure.value):>10} {figure.unit:7}"
                        f" {number(figure.bare):>10} {figure.ratio:6.2f}  {figure.against}"
                    )


def number(value: float) -> str:
    """Return a number with as many digits as mean something."""
    return f"{value:,.0f}" if abs(value) >= THREE_DIGITS else f"{value:.3g}"


@contextmanager
def telling() -> Iterator[Callable[[str], None]]:
    """Give what shows on stderr what goes on: in place on a terminal, else a line for each change."""
    in_place = sys.stderr.isatty()
    last = ""

    def tell(text: str) -> None:
        nonlocal last
        if in_place:
            click.echo(f"\r\x1b[K{text}", err=True, nl=False)
        elif text and text != last:
            click.echo(text, err=True)
            last = text

    try:
        yield tell
    finally:
        if in_place:
            tell("")
