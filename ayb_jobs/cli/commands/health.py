"""`ayb-jobs health`: can work be done? For probes in places without HTTP."""

import json
import socket
from collections.abc import Sequence
from contextlib import closing
from typing import Any, NamedTuple

import click

from ayb_jobs.checks.finding import Severity, facts
from ayb_jobs.checks.fleet import lifeless, no_daemon, stuck
from ayb_jobs.checks.verdict import Look, look_round
from ayb_jobs.cli import output
from ayb_jobs.cli.backend.address import database_url
from ayb_jobs.cli.backend.api import ApiBackend
from ayb_jobs.cli.backend.asked import api_url, token
from ayb_jobs.cli.exits import ExitCode
from ayb_jobs.cli.options import Options, backend_options, pass_options
from ayb_jobs.cli.settings import place_words, settings
from ayb_jobs.config import Config, Retention
from ayb_jobs.model.words import as_sentence
from ayb_jobs.storage.database import Timeouts, connect_to_primary
from ayb_jobs.storage.faults import worded_faults
from ayb_jobs.storage.fleet.daemons import daemon_was_heard

CONNECT_S = 3.0


@click.command
@click.option("--this-host", is_flag=True, help="Count only daemons on this host, as a container's probe does.")
@backend_options
@pass_options
@click.pass_context
def health(ctx: click.Context, options: Options, *, this_host: bool) -> None:
    """Tell whether work can be done: the database is writable, its schema is current, and a daemon is at work.

    If not, prints each reason and exits with 1. If so, prints ok. A sentence on stderr tells how things stand.
    With --url, asks the daemon there whether it is ready. A daemon has to be alive if jobs.enabled is true; if nothing
    sets it, only if one was heard of within a day, and stderr names the database and says what was asked. Due jobs that
    no live daemon can run are named, and do not make it fail.
    """
    url = api_url(options)
    if url:
        found = json.loads(ApiBackend(url, token(options)).health())
        health = Health(
            found["reasons"], found.get("unclaimableJobs", 0), found.get("notices", []), found.get("sentence")
        )
    else:
        health = database_health(options, this_host=this_host)
    if options.json:
        told: dict[str, Any] = {"status": "failing" if health.reasons else "ok", "reasons": health.reasons}
        told |= {"sentence": health.sentence} if health.sentence else {}
        told |= {"unclaimableJobs": health.unclaimable} if health.unclaimable else {}
        output.print_json(json.dumps(told | ({"notices": health.notices} if health.notices else {}), allow_nan=False))
    elif options.output == "csv":
        rows = [["failing", reason] for reason in health.reasons] or [["ok", ""]]
        output.print_table([output.Column(title="STATUS"), output.Column(title="REASON")], rows, form="csv")
    else:
        click.echo("\n".join(map(output.one_line, health.reasons)) or "ok")
        if health.sentence and not {as_sentence(each) for each in health.reasons} & {health.sentence}:
            output.say(output.one_line(health.sentence))
        if health.unclaimable:
            output.say("Due jobs wait that no live daemon can run; see: ayb-jobs why")
        for notice in health.notices:
            output.say(notice)
    ctx.exit(ExitCode.FAILED if health.reasons else ExitCode.OK)


class Health(NamedTuple):
    """Why no work can be done, and how many due jobs no live daemon can run, of those that were looked at.

    `notices` tell what an operator should know in time, `sentence` how things stand.
    """

    reasons: list[str]
    unclaimable: int = 0
    notices: Sequence[str] = ()
    sentence: str | None = None


def database_health(options: Options, *, this_host: bool) -> Health:
    """Ask the checks of the database; the due jobs are counted if there is no reason against working."""
    config = None if options.database_url else settings(options)
    host = socket.gethostname() if this_host else None
    timeouts = Timeouts(connect_s=CONNECT_S, statement_s=CONNECT_S)
    with (
        database_url(options) as url,
        closing(connect_to_primary(url, name="ayb-jobs-health", timeouts=timeouts)) as conn,
        worded_faults(),
    ):
        if config is not None and not config.jobs.enabled:
            if "jobs.enabled" in config.origins:
                output.say(
                    f"jobs are disabled here ({enabled_by(config)}): neither the schema nor a daemon was looked for"
                )
                return Health([])
            place = place_words(options, config)
            if not daemon_was_heard(conn, host=host):
                output.say(output.one_line(f"{UNSET}, and no daemon is known in {place}: jobs are disabled"))
                return Health([])
            output.say(output.one_line(f"{UNSET}, but a daemon was heard of in {place}, which was looked at"))
        found = look_round(conn, config.retention if config else Retention())
    return health_of(found, host)


# What is said if jobs are disabled because nobody has said anything.
UNSET = "nothing sets jobs.enabled here"


def enabled_by(config: Config) -> str:
    """Say who set `jobs.enabled`."""
    return f"jobs.enabled, {config.origins['jobs.enabled'].label()}"


def health_of(found: Look, host: str | None) -> Health:
    """Return what a look at the database means for a probe, which may ask for one host."""
    if unfit := facts(found.unfit):
        return Health(unfit, sentence=found.verdict.sentence)
    if missing := no_daemon(found.fleet, host=host):
        return Health([missing.fact], sentence=as_sentence(missing.told))
    notices = [each.fact for each in found.deferred]
    if hung := stuck(found.fleet, host=host):
        if hung.severity is Severity.FAILING:
            return Health([hung.fact], sentence=as_sentence(hung.told))
        notices.append(f"{hung.fact}: {', '.join(hung.evidence['daemons'])}")
    for grave in filter(None, (found.refused, found.stuck_handlers)):
        if grave.severity is Severity.FAILING:
            return Health([grave.fact], sentence=as_sentence(grave.told))
    if silent := lifeless(found.fleet):
        notices.append(f"{silent.fact}: {', '.join(silent.evidence['daemons'])}")
    waiting = int(found.unclaimable.evidence["count"]) if found.unclaimable else 0
    return Health([], waiting, notices, found.verdict.sentence)
