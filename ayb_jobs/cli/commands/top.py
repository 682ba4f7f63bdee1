"""`ayb-jobs top`: how things stand, live in a terminal."""

import shutil
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress

import click

from ayb_jobs.checks.glance import Glance, glance
from ayb_jobs.cli import output
from ayb_jobs.cli.backend.address import database_url
from ayb_jobs.cli.options import Options, common_options, pass_options
from ayb_jobs.cli.screen import Drawn, Size, draw, painted, whole
from ayb_jobs.cli.settings import settings
from ayb_jobs.cli.stopping import end_as_by_ctrl_c
from ayb_jobs.cli.terminal import Terminal, is_usable
from ayb_jobs.config import Retention
from ayb_jobs.errors import AybJobsError, InvalidInput
from ayb_jobs.model.words import span_words
from ayb_jobs.storage.database import Connection, Timeouts, connect_to_primary
from ayb_jobs.storage.faults import worded_faults

EVERY_S = 2.0
LEAST_S, MOST_S = 0.5, 3600.0
TIMEOUTS = Timeouts(connect_s=3.0, statement_s=10.0)
PATIENCE_S = 0.2
LATE_S = 2.0  # an answer that is later is missed aloud
REDRAWN_S = 1.0
PLAIN_COLUMNS = 80


@click.command
@click.option("--once", is_flag=True, help="Print all of it once, and end.")
@click.option(
    "--every", type=click.FloatRange(LEAST_S, MOST_S), default=EVERY_S, metavar="SECONDS", help="How often it is read."
)
@common_options
@pass_options
def top(options: Options, *, once: bool, every: float) -> None:
    """Show how things stand, live: the dashboard's sentence, queues, daemons, failures and schedules.

    It is read anew every 2 seconds, or as --every says. Keys: q quits, p holds still, j and k or arrows scroll, space
    and b scroll by pages, g and G go to the ends. If the database goes away, that is said, and it is asked again.
    Works on the database alone. Nothing is changed.
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
            show_live(reader, seen, every)


def show_whole(seen: Glance) -> None:
    """Print everything."""
    columns = shutil.get_terminal_size().columns if output.is_terminal() else PLAIN_COLUMNS
    for line in whole(seen, columns):
        click.echo(painted(line, colour=output.wants_colour()))


class Reader:
    """Reads how things stand, on one connection, which is opened anew after a failure."""

    def __init__(self, url: str, retention: Retention) -> None:
        self._url, self._retention = url, retention
        self._conn: Connection | None = None

    def read(self) -> Glance:
        """Read; raises `DatabaseError` if the database cannot be asked."""
        if self._conn is None:
            self._conn = connect_to_primary(self._url, name="ayb-jobs-top", timeouts=TIMEOUTS)
        try:
            with worded_faults():
                return glance(self._conn, self._retention)
        except AybJobsError:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection, if there is one."""
        conn, self._conn = self._conn, None
        if conn is not None:
            conn.close()


class Looking:
    """A thread that reads again and again, so that keys are heard while the database does not answer.

    `seen` is the last answer. `check` raises what ended the thread, if it ended.
    """

    def __init__(self, reader: Reader, seen: Glance, every_s: float, told: Callable[[], None]) -> None:
        self.seen, self._fault, self._heard = seen, "", time.monotonic()
        self._reader, self._every_s, self._told = reader, every_s, told
        self._ended, self._goes_on = threading.Event(), threading.Event()
        self._error: BaseException | None = None
        self._goes_on.set()
        self._thread = threading.Thread(target=self._run, name="top", daemon=True)
        self._thread.start()

    @property
    def held(self) -> bool:
        """Whether nothing is read for now."""
        return not self._goes_on.is_set()

    @property
    def fault(self) -> str:
        """Why there is no newer answer; empty if none is missing."""
        silent_s = time.monotonic() - self._heard - self._every_s
        if self._fault or self.held or silent_s < LATE_S:
            return self._fault
        return f"the database has not answered for {span_words(silent_s)}"

    def hold(self, *, held: bool) -> None:
        """Stop reading, or go on with it."""
        if held:
            self._goes_on.clear()
        else:
            self._heard = time.monotonic()
            self._goes_on.set()

    def close(self) -> None:
        """Read no more. A database that does not answer is not waited for."""
        self._ended.set()
        self._goes_on.set()
        self._thread.join(PATIENCE_S)

    def check(self) -> None:
        """Raise the error that ended the thread, if one did."""
        if self._error:
            raise self._error

    def _run(self) -> None:
        try:
            while not self._ended.wait(self._every_s):
                self._goes_on.wait()
                self._look()
                self._told()
            self._reader.close()
        except BaseException as error:
            self._error = error
            self._told()
            raise SystemExit from error  # which ends a thread without a word; `check` has it

    def _look(self) -> None:
        try:
            self.seen, self._fault = self._reader.read(), ""
        except AybJobsError as error:
            self._fault = str(error)
        self._heard = time.monotonic()


def show_live(reader: Reader, seen: Glance, every_s: float) -> None:
    """Show how things stand until q is pressed or the terminal is gone."""
    first = 0
    with suppress(EOFError), Terminal() as terminal, closing(Looking(reader, seen, every_s, terminal.wake)) as looking:
        while True:
            looking.check()
            columns, rows = terminal.size()
            size = Size(columns=columns, rows=rows)
            drawn = draw(looking.seen, size, first=first, fault=looking.fault, held=looking.held)
            terminal.show([painted(line, colour=output.wants_colour()) for line in drawn.lines])
            first = drawn.first
            for key in terminal.wait(REDRAWN_S):
                if key == "q":
                    return
                if key == "p":
                    looking.hold(held=not looking.held)
                first = scrolled(first, key, drawn)


def scrolled(first: int, key: str, drawn: Drawn) -> int:
    """Return the first line of the body after a key."""
    steps = {"j": 1, "k": -1, " ": drawn.page, "b": -drawn.page, "g": -first, "G": drawn.last_first}
    return max(0, min(first + steps.get(key, 0), drawn.last_first))
