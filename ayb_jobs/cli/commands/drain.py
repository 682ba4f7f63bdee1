"""`ayb-jobs drain`."""

import time
from typing import Any

import click

from ayb_jobs.cli import output
from ayb_jobs.cli.backend.backend import DaemonsBackend, open_daemons
from ayb_jobs.cli.exits import ApiUnavailable
from ayb_jobs.cli.options import Options, backend_options, pass_options
from ayb_jobs.cli.output import decoded
from ayb_jobs.cli.values import DURATION
from ayb_jobs.errors import Conflict, InvalidInput, NotFound
from ayb_jobs.model.words import count_words

# How often it is asked whether the daemon has ended.
ASK_S = 0.2


@click.command
@click.argument("daemon", metavar="[DAEMON]", required=False)
@click.option(
    "--wait", "wait_s", type=DURATION, metavar="TIME", help="Wait until the daemon has ended, at most so long."
)
@backend_options
@pass_options
def drain(options: Options, daemon: str | None, wait_s: float | None) -> None:
    """Have a daemon take no more jobs, and end when its handlers have.

    DAEMON is its id, or a part of it that no other live daemon's id has. You may leave it out if only one daemon is
    alive. The daemon releases the jobs that it has not started; nothing tells its handlers to end. With --wait, exits
    with 1 if the daemon has not ended when the time is over; it goes on draining.
    """
    with open_daemons(options) as backend:
        text = backend.drain(the_only(backend) if daemon is None else daemon)
        asked = decoded(text)
        if wait_s is not None:
            await_end(backend, asked["id"], wait_s)
    if options.json:
        output.print_json(text)
        return
    if options.output == "csv":
        titles = [output.Column(title="ID"), output.Column(title="RUNNING")]
        output.print_table(titles, [[asked["id"], str(len(asked["running"]))]], form="csv")
        return
    state = f"drains; it holds {holds(asked)}" if wait_s is None else "has ended"
    click.echo(output.one_line(f"daemon {asked['id']} {state}"))


def the_only(backend: DaemonsBackend) -> str:
    """Return the id of the daemon that is alive; if there are several, list them and raise `InvalidInput`."""
    alive = decoded(backend.list_daemons())["items"]
    if not alive:
        raise NotFound("no daemon is alive")
    if len(alive) > 1:
        for one in alive:
            output.say(output.one_line(f"{one['id']} holds {holds(one)}"))
        raise InvalidInput(
            f"{len(alive)} daemons are alive; name one, by its id or a part of it that no other has", field="daemon"
        )
    return str(alive[0]["id"])


def await_end(backend: DaemonsBackend, worker_id: str, wait_s: float) -> None:
    """Wait until a daemon is no longer alive, and say what it still holds; raises `Conflict` when the time is over."""
    give_up = time.monotonic() + wait_s
    told = ""
    while left := still_held(backend, worker_id):
        if time.monotonic() >= give_up:
            raise Conflict(f"daemon {worker_id} drains, but still holds {left}, after {wait_s:g} s")
        if left != told:
            output.say(f"waiting: it holds {left}")
            told = left
        time.sleep(ASK_S)


def still_held(backend: DaemonsBackend, worker_id: str) -> str:
    """Say what a daemon holds; nothing once it is no longer alive."""
    try:
        alive = decoded(backend.list_daemons())["items"]
    except ApiUnavailable as error:
        raise ApiUnavailable(f"{error}; if that API was the drained daemon's own, it has ended") from error
    return next((holds(one) for one in alive if one["id"] == worker_id), "")


def holds(daemon: dict[str, Any]) -> str:
    """Say how many jobs a daemon holds."""
    return count_words(len(daemon["running"]), "job")
