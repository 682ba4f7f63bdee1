"""`ayb-jobs migrate`: bring the database's schema up to date."""

import json
from contextlib import closing

import click

from ayb_jobs.cli import output
from ayb_jobs.cli.backend.address import direct_url
from ayb_jobs.cli.options import Options, common_options, json_option, pass_options
from ayb_jobs.cli.settings import settings
from ayb_jobs.storage.database import connect_for_ourselves
from ayb_jobs.storage.execution_view import keep_execution_view
from ayb_jobs.storage.faults import worded_faults
from ayb_jobs.storage.fitness import refuse_unfit_kind
from ayb_jobs.storage.migrate import migrate as apply
from ayb_jobs.storage.migrate import pending


@click.command
@click.option("--plan", is_flag=True, help="Say what would be done, and do nothing.")
@common_options
@json_option
@pass_options
def migrate(options: Options, *, plan: bool) -> None:
    """Bring the database's schema up to date: all that is missing in one transaction, or nothing."""
    with (
        direct_url(options) as url,
        closing(connect_for_ourselves(url, name="ayb-jobs-migrate", writable=not plan)) as conn,
        worded_faults(),
    ):
        refuse_unfit_kind(conn)
        if plan:
            names = [migration.name for migration in pending(conn)]
            print_names(options, names, "would apply", "Nothing to do: the schema is up to date.")
            return
        applied = apply(conn, output.say)
        keep_execution_view(conn, wanted="barycenter" in settings(options).handlers.packs)
    names = [migration.name for migration in applied.migrations]
    print_names(options, names, "applied", "Nothing to do: the schema is up to date.")
    for notice in applied.notices:
        output.say(f"note: {notice}")


def print_names(options: Options, names: list[str], done: str, none: str) -> None:
    """Print the names of migrations."""
    if options.json:
        output.print_json(json.dumps({"migrations": names}))
    elif names:
        for name in names:
            click.echo(f"{done} {name}")
    else:
        click.echo(none)
