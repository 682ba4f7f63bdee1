"""`ayb-jobs grant`: give a role of the database what it needs."""

import json
from contextlib import closing

import click

from ayb_jobs.cli import output
from ayb_jobs.cli.backend.address import direct_url
from ayb_jobs.cli.options import Options, common_options, json_option, pass_options
from ayb_jobs.errors import InvalidInput
from ayb_jobs.storage import rights
from ayb_jobs.storage.database import connect_for_ourselves
from ayb_jobs.storage.faults import worded_faults
from ayb_jobs.storage.migrate import make_functions
from ayb_jobs.storage.rights import Level


@click.command
@click.argument("role")
@click.option("--enqueue", is_flag=True, help="What an application needs to enqueue jobs.")
@click.option("--daemon", is_flag=True, help="What the daemon needs; `migrate` stays with the owner.")
@click.option("--read", is_flag=True, help="Looking at everything.")
@common_options
@json_option
@pass_options
def grant(options: Options, *, role: str, enqueue: bool, daemon: bool, read: bool) -> None:
    """Give ROLE, a role of the database, the rights that it needs; those it has already it keeps.

    Run it as the owner of the tables. An update gives new tables to the roles that were given the others.
    """
    asked: dict[Level, bool] = {"enqueue": enqueue, "daemon": daemon, "read": read}
    levels = [level for level, wanted in asked.items() if wanted]
    if not levels:
        raise InvalidInput("say what the role needs: --enqueue, --daemon or --read")
    with (
        direct_url(options) as url,
        closing(connect_for_ourselves(url, name="ayb-jobs-grant")) as conn,
        worded_faults(),
    ):
        if enqueue:
            make_functions(conn)
        granted = rights.grant(conn, conn.surroundings.schema, role, levels)
    if options.json:
        output.print_json(json.dumps({"role": role, "levels": levels, "statements": granted.statements}))
        return
    for statement in granted.statements:
        click.echo(f"{statement};")
