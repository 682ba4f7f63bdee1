"""`ayb-jobs migrate`: bring the database's schema up to date, or say what that would do."""

import json
from collections.abc import Sequence
from contextlib import closing

import click

from ayb_jobs.cli import output
from ayb_jobs.cli.backend.address import direct_url
from ayb_jobs.cli.exits import ExitCode
from ayb_jobs.cli.options import Options, common_options, json_option, pass_options
from ayb_jobs.cli.planning import Matter, matters, plan_lines
from ayb_jobs.cli.settings import settings
from ayb_jobs.config import Config
from ayb_jobs.handlers.packs import build_registry
from ayb_jobs.storage.database import Connection, connect_for_ourselves
from ayb_jobs.storage.execution_view import keep_execution_view
from ayb_jobs.storage.faults import worded_faults
from ayb_jobs.storage.fitness import refuse_unfit_kind
from ayb_jobs.storage.migrate import migrate as apply
from ayb_jobs.storage.preflight import Preflight, preflight, rows_of
from ayb_jobs.storage.queue.retention import kept_jobs


@click.command
@click.option("--plan", is_flag=True, help="Say what would be done and what the rows mean, and do nothing.")
@click.option("--adopt-check", is_flag=True, help="As --plan, and exit with 1 if you have to decide something first.")
@common_options
@json_option
@pass_options
@click.pass_context
def migrate(ctx: click.Context, options: Options, *, plan: bool, adopt_check: bool) -> None:
    """Bring the database's schema up to date: all that is missing in one transaction, or nothing."""
    config = settings(options)
    reads = plan or adopt_check
    with (
        direct_url(options) as url,
        closing(connect_for_ourselves(url, name="ayb-jobs-migrate", writable=not reads)) as conn,
        worded_faults(),
    ):
        refuse_unfit_kind(conn)
        if not reads:
            bring_up_to_date(conn, options, config)
            return
        found = preflight(conn)
        about = [Matter(words, decide=True) for words in found.odd]
        # What the rows mean can be told only of tables that are as AYB makes them.
        about = about or look(conn, config, adopted=any(each.version == 1 for each in found.migrations))
    show(options, found, about)
    if adopt_check and any(matter.decide for matter in about):
        ctx.exit(ExitCode.FAILED)


def bring_up_to_date(conn: Connection, options: Options, config: Config) -> None:
    """Apply what is missing, and print what was applied."""
    applied = apply(conn, output.say)
    keep_execution_view(conn, wanted="barycenter" in config.handlers.packs)
    names = [migration.name for migration in applied.migrations]
    if options.json:
        output.print_json(json.dumps({"migrations": names}))
    else:
        for line in [f"applied {name}" for name in names] or ["Nothing to do: the schema is up to date."]:
            click.echo(line)
    for notice in applied.notices:
        output.say(f"note: {notice}")


def look(conn: Connection, config: Config, *, adopted: bool) -> list[Matter]:
    """Return what the rows mean to a daemon with these settings; `adopted` tells that it would be its first start."""
    kept = list(kept_jobs(config.retention))
    rows = rows_of(conn, {each.state: each.hours for each in kept if not each.is_explicit})
    hours = {str(each.state): each.hours for each in kept}
    return list(matters(rows, build_registry(config).names(), hours, adopted=adopted))


def show(options: Options, plan: Preflight, about: Sequence[Matter]) -> None:
    """Print what would be done, and what the rows mean: first what an operator has to decide."""
    if options.json:
        told = {
            "migrations": [migration.name for migration in plan.migrations],
            "makes": plan.made,
            "locks": [
                {"table": each.table, "rows": each.rows, "bytes": each.size, "atMostSec": each.seconds}
                for each in plan.locked
            ],
            "rows": [{"says": matter.words, "decide": matter.decide} for matter in about],
        }
        output.print_json(json.dumps(told))
        return
    for line in plan_lines(plan):
        click.echo(line)
    for matter in sorted(about, key=lambda matter: not matter.decide):
        click.echo(f"{'decide: ' if matter.decide else 'note: '}{output.one_line(matter.words)}")
