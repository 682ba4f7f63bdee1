"""The command, and the loop that shows a screen and hears keys."""

import shutil
from contextlib import closing, suppress
from dataclasses import replace

import click

from ayb_jobs.checks.glance import Glance
from ayb_jobs.cli import output
from ayb_jobs.cli.backend.address import database_url
from ayb_jobs.cli.commands.top.acting import Acts
from ayb_jobs.cli.commands.top.lines import Size, Target, painted
from ayb_jobs.cli.commands.top.looking import Looking, Reader
from ayb_jobs.cli.commands.top.screen import Drawn, View, draw, whole
from ayb_jobs.cli.options import Options, common_options, pass_options
from ayb_jobs.cli.settings import settings
from ayb_jobs.cli.stopping import end_as_by_ctrl_c
from ayb_jobs.cli.terminal import Terminal, is_usable
from ayb_jobs.cli.values import Number
from ayb_jobs.config import Retention
from ayb_jobs.errors import InvalidInput

EVERY_S = 2.0
LEAST_S, MOST_S = 0.5, 3600.0
REDRAWN_S = 1.0
PLAIN_COLUMNS = 80


@click.command
@click.option("--once", is_flag=True, help="Print all of it once, and end.")
@click.option("--every", type=Number(LEAST_S, MOST_S), default=EVERY_S, metavar="SECONDS", help="How often it is read.")
@common_options
@pass_options
def top(options: Options, *, once: bool, every: float) -> None:
    """Show how things stand, live: the dashboard's sentence, queues, daemons, failures and schedules.

    It is read anew every 2 seconds, or as --every says. Keys: q quits, h holds still, space and b scroll by pages, g
    and G go to the ends. j and k or arrows choose a row: p pauses or resumes a queue, c cancels a job that runs, r
    retries failed jobs that are alike. Each asks first, and y does it. If the database goes away, that is said, and it
    is asked again. Works on the database alone.
    """
    if once:
        output.must_print()
    elif not is_usable():
        raise InvalidInput("top needs a terminal for its input and output; print it once with: ayb-jobs top --once")
    with database_url(options) as url:
        retention = Retention() if options.database_url else settings(options).retention
        reader = Reader(url, retention)
        with output.patience("asking the database …"):
            seen = reader.read()
        if once:
            reader.close()
            show_whole(seen)
        else:
            end_as_by_ctrl_c()
            show_live(reader, seen, every, url, options)


def show_whole(seen: Glance) -> None:
    """Print everything."""
    columns = shutil.get_terminal_size().columns if output.is_terminal() else PLAIN_COLUMNS
    for line in whole(seen, columns):
        click.echo(painted(line, colour=output.wants_colour()))


def show_live(reader: Reader, seen: Glance, every_s: float, url: str, options: Options) -> None:
    """Show how things stand until q is pressed or the terminal is gone."""
    view = View()
    with suppress(EOFError), Terminal() as terminal, closing(Looking(reader, seen, every_s, terminal.wake)) as looking:
        acts = Acts(url, options, terminal.wake, looking.hurry)
        while True:
            looking.check()
            acts.check()
            view = replace(view, held=looking.held, told=acts.line)
            drawn = show(terminal, looking, view)
            view = replace(view, first=drawn.first, chosen=as_it_stands(view.chosen, drawn))
            for key in terminal.wait(REDRAWN_S):
                if key == "q":
                    return
                if acts.hears(key, view.chosen):
                    continue
                if key == "h":
                    looking.hold(held=not looking.held)
                view = moved(view, key, drawn)


def show(terminal: Terminal, looking: Looking, view: View) -> Drawn:
    """Put a screen on the terminal, with the chosen row in reverse."""
    columns, rows = terminal.size()
    drawn = draw(looking.seen, Size(columns=columns, rows=rows), view, fault=looking.fault)
    key, colour = view.chosen and view.chosen.key, output.wants_colour()
    terminal.show(
        [
            painted(line, colour=colour, is_chosen=line.target is not None and line.target.key == key)
            for line in drawn.lines
        ]
    )
    return drawn


def as_it_stands(chosen: Target | None, drawn: Drawn) -> Target | None:
    """Return the chosen row as it was read last; None if it is gone."""
    return next((each for _, each in drawn.targets if chosen is not None and each.key == chosen.key), None)


def moved(view: View, key: str, drawn: Drawn) -> View:
    """Return what is looked at after a key: another row is chosen, or other lines are shown."""
    if key in {"j", "k"}:
        return chosen_next(view, 1 if key == "j" else -1, drawn)
    steps = {" ": drawn.page, "b": -drawn.page, "g": -view.first, "G": drawn.last_first}
    return replace(view, first=max(0, min(view.first + steps.get(key, 0), drawn.last_first)))


def chosen_next(view: View, step: int, drawn: Drawn) -> View:
    """Choose the next row below or above, of which at least one line is shown; scroll by a line if there is none."""
    at = next((place for place, each in drawn.targets if view.chosen is not None and each.key == view.chosen.key), None)
    start = at if at is not None else view.first - 1 if step > 0 else view.first + drawn.page
    rows = drawn.targets if step > 0 else list(reversed(drawn.targets))
    found = next(((place, each) for place, each in rows if (place - start) * step > 0), None)
    if found is None:
        return replace(view, first=max(0, min(view.first + step, drawn.last_first)))
    place, target = found
    first = max(min(view.first, place), place - max(1, drawn.page) + 1)
    return replace(view, chosen=target, first=max(0, min(first, drawn.last_first)))
