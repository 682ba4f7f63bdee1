"""`ayb-jobs health`: can work be done? For probes in places without HTTP."""

import json
import socket
from contextlib import closing

import click

from ayb_jobs.cli import output
from ayb_jobs.cli.backend.address import database_url
from ayb_jobs.cli.backend.api import ApiBackend
from ayb_jobs.cli.backend.backend import api_url, token
from ayb_jobs.cli.exits import ExitCode
from ayb_jobs.cli.options import Options, backend_options, pass_options
from ayb_jobs.cli.settings import settings
from ayb_jobs.storage.database import Timeouts, connect_to_primary
from ayb_jobs.storage.faults import worded_faults
from ayb_jobs.storage.fitness import database_unfitness
from ayb_jobs.storage.fleet.daemons import ALIVE_S, list_workers
from ayb_jobs.storage.fleet.unclaimable import unclaimable_jobs

CONNECT_S = 3.0


@click.command
@click.option("--this-host", is_flag=True, help="Count only daemons on this host, as a container's probe does.")
@backend_options
@pass_options
@click.pass_context
def health(ctx: click.Context, options: Options, *, this_host: bool) -> None:
    """Tell whether work can be done: the database is writable, its schema is current, and a daemon is alive.

    Exits with 1 where not, naming each reason. With --url, the daemon there says whether it is ready. Where jobs are
    disabled, no daemon is looked for. Due jobs that no live daemon can run are told, and are no such reason.
    """
    url = api_url(options)
    if url:
        found = json.loads(ApiBackend(url, token(options)).health())
        reasons: list[str] = found["reasons"]
        unclaimable: int = found.get("unclaimableJobs", 0)
    else:
        reasons, unclaimable = database_health(options, this_host=this_host)
    if options.json:
        told = {"status": "failing" if reasons else "ok", "reasons": reasons}
        output.print_json(json.dumps(told | ({"unclaimableJobs": unclaimable} if unclaimable else {})))
    else:
        click.echo("\n".join(map(output.one_line, reasons)) or "ok")
        if unclaimable:
            output.say(f"{unclaimable:,} due jobs wait that no live daemon can run; see: ayb-jobs jobs stats")
    ctx.exit(ExitCode.FAILED if reasons else ExitCode.OK)


def database_health(options: Options, *, this_host: bool) -> tuple[list[str], int]:
    """Return a line for each reason why no work can be done, and how many due jobs no live daemon can run.

    The latter are counted where there is no such reason, among the 10,000 that come first.
    """
    disabled = not options.database_url and not settings(options).jobs.enabled
    timeouts = Timeouts(connect_s=CONNECT_S, statement_s=CONNECT_S)
    with (
        database_url(options) as url,
        closing(connect_to_primary(url, name="ayb-jobs-health", timeouts=timeouts)) as conn,
        worded_faults(),
    ):
        if disabled:
            output.say("jobs are disabled here (jobs.enabled), so that neither the schema nor a daemon was looked for")
            return [], 0
        reasons = database_unfitness(conn)
        if reasons:
            return reasons, 0
        hosts = [seen.worker.host for seen in list_workers(conn)]
        unclaimable = sum(unclaimable_jobs(conn).values()) if hosts else 0
    if not (hosts if not this_host else socket.gethostname() in hosts):
        where = " on this host" if this_host else ""
        reasons.append(f"no daemon is alive{where}: it stopped, or has been silent for {ALIVE_S:.0f} s")
    return reasons, unclaimable
