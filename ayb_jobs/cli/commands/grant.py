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

ABILITIES: dict[Level, str] = {
    "enqueue": "enqueue jobs",
    "worker": "lease and settle jobs by SQL",
    "daemon": "run the daemon",
    "read": "read everything",
}


@click.command
@click.argument("role")
@click.option("--enqueue", is_flag=True, help="The rights of an application that enqueues jobs.")
@click.option("--worker", is_flag=True, help="The rights of a worker in any language, which leases jobs by SQL.")
@click.option("--daemon", is_flag=True, help="The rights of the daemon; `migrate` is for the owner alone.")
@click.option("--read", is_flag=True, help="The right to read all tables.")
@common_options
@json_option
@pass_options
def grant(options: Options, *, role: str, enqueue: bool, worker: bool, daemon: bool, read: bool) -> None:
    """Grant ROLE, a role of the database, what it needs, and print the statements that did it.

    Run it as the owner of the tables. ROLE keeps the rights that it has. An upgrade that makes new tables grants them
    to the same roles.
    """
    asked: dict[Level, bool] = {"enqueue": enqueue, "worker": worker, "daemon": daemon, "read": read}
    levels = [level for level, wanted in asked.items() if wanted]
    if not levels:
        raise InvalidInput("say what the role needs: --enqueue, --worker, --daemon or --read")
    with (
        direct_url(options) as url,
        closing(connect_for_ourselves(url, name="ayb-jobs-grant")) as conn,
        worded_faults(),
    ):
        if enqueue or worker:
            make_functions(conn)
        granted = rights.grant(conn, conn.surroundings.schema, role, levels)
    if options.json:
        output.print_json(json.dumps({"role": role, "levels": levels, "statements": granted.statements}))
        return
    for statement in granted.statements:
        click.echo(f"{statement};")
    output.say(f"Done: {output.one_line(role)} can {', '.join(ABILITIES[level] for level in levels)}.")
