"""Printing: tables for people, tab-separated lines for pipes, CSV and JSON for programs.

What others wrote (types, errors, payloads) may hold anything: control characters are shown, never sent to a terminal.
"""

import csv
import io
import json
import os
import re
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Protocol

import click

from ayb_jobs.cli import streams
from ayb_jobs.cli.options import Options
from ayb_jobs.cli.widths import cell_width, cut

SLOW_S = 1.0
DEEPEST = 100
GAP = "  "  # between the columns of a table
PAGE = re.compile(r'\{"items":(\[.*\]),"count":\d+(?:,"nextCursor":"[^"]*")?(?:,"atLeast":(true|false))?\}', re.DOTALL)

must_print = streams.must_print


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table. `key` columns are never cut; the others go, the last first, if the terminal is narrow."""

    title: str
    key: bool = False
    right: bool = False
    flexible: bool = False


def print_json(text: str) -> None:
    """Print JSON text as UTF-8, whatever the terminal's encoding.

    For people, indented and with no control character.
    """
    if is_terminal():
        with suppress(RecursionError, ValueError):  # what Python cannot decode is shown as it is
            text = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
        text = printable_json(text)
    click.echo(f"{text}\n".encode(), nl=False)


def print_page(options: Options, text: str) -> None:
    """Print a list of the API: as it is for --json, as a bare array for `--output json`.

    The array cannot tell that there is more than it lists, so stderr does.
    """
    page = PAGE.fullmatch(text) if options.output == "json" else None
    print_json(page[1] if page else text)
    if page and page[2] == "true":
        say_if_more(text, "of them")


def so_many(count: int, answer: Mapping[str, Any]) -> str:
    """Return a count of an answer of the API, with a plus if not all were counted: `10000+`."""
    return f"{count}+" if answer["atLeast"] else str(count)


def say_if_more(page: str, nouns: str) -> None:
    """Say on stderr if there are more than a page of the API lists."""
    if decoded(page)["atLeast"]:
        say(f"There are more {nouns} than are listed here.")


def printable_json(text: str) -> str:
    """Return JSON text in which what is not printable stands as JSON's own escapes."""
    return "".join(part if part.isprintable() or part == "\n" else json.dumps(part)[1:-1] for part in text)


def print_table(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], styles: Sequence[str] = (), *, form: str | None = None
) -> None:
    """Print a table as `--output` asks: `table` or `csv`. With neither, print tab-separated lines into a pipe.

    `styles` are the rows' colours.
    """
    texts = [[one_line(cell) for cell in row] for row in rows]
    titles = [column.title for column in columns]
    if form == "csv":
        click.echo(as_csv([titles, *texts]), nl=False)
    elif is_drawn(form):
        draw(columns, texts, styles)
    else:
        for row in (titles, *texts):
            click.echo("\t".join(row))


def as_csv(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def draw(columns: Sequence[Column], rows: Sequence[Sequence[str]], styles: Sequence[str]) -> None:
    """Print a table, as wide as the terminal at most."""
    widths = widths_that_fit(columns, rows, shutil.get_terminal_size().columns if is_terminal() else sys.maxsize)
    colour = wants_colour()
    titles = [fitted(columns[index].title, width, columns[index]) for index, width in widths.items()]
    click.echo(click.style(GAP.join(titles).rstrip(), bold=True) if colour else GAP.join(titles).rstrip())
    for number, row in enumerate(rows):
        cells = [fitted(row[index], width, columns[index]) for index, width in widths.items()]
        if colour and styles:
            cells = [
                click.style(cell, fg=styles[number]) if columns[index].title == "STATE" else cell
                for index, cell in zip(widths, cells, strict=True)
            ]
        click.echo(GAP.join(cells).rstrip())


def fitted(text: str, width: int, column: Column) -> str:
    """Return a text cut or padded to a column's width."""
    shown = cut(text, width)
    padding = " " * (width - cell_width(shown))
    return padding + shown if column.right else shown + padding


def widths_that_fit(columns: Sequence[Column], rows: Sequence[Sequence[str]], room: int) -> dict[int, int]:
    """Return the widths of the columns that there is room for, by their index: a flexible one takes what is left."""
    whole = [
        max([len(column.title), *(cell_width(row[index]) for row in rows)]) for index, column in enumerate(columns)
    ]
    least = [len(column.title) if column.flexible else whole[index] for index, column in enumerate(columns)]
    widths: dict[int, int] = {}
    used = 0
    for index, column in enumerate(columns):
        if column.key or used + least[index] <= room:
            widths[index] = least[index]
            used += least[index] + len(GAP)
    for index in widths:
        if columns[index].flexible:
            widths[index] = min(whole[index], least[index] + max(0, room - used + len(GAP)))
    return widths


def print_fields(fields: Mapping[str, str], styles: Mapping[str, str]) -> None:
    """Print names and values in two columns, a value of several lines below each other; `styles` are colours."""
    longest = max(map(len, fields), default=0)
    colour = wants_colour()
    for name, value in fields.items():
        title = click.style(name.ljust(longest), bold=True) if colour else name.ljust(longest)
        for line in value.splitlines() or [""]:
            text = click.style(one_line(line), fg=styles.get(name)) if colour else one_line(line)
            click.echo(f"{title}  {text}".rstrip())
            title = " " * longest


def is_drawn(form: str | None) -> bool:
    """Tell whether a table is printed for people."""
    return form == "table" or (form is None and is_terminal())


def is_terminal() -> bool:
    """Tell whether a person reads the output."""
    return sys.stdout.isatty()


class Clock(Protocol):
    """Tells the time by the database, which is where instants come from; this host's clock may be wrong."""

    def now(self) -> datetime:
        """Return the database's clock."""
        ...


def when_for(options: Options, clock: Clock) -> Callable[[str], str]:
    """Return how an instant is shown in a table: how far from the clock for people, as it is for programs."""
    if options.json or not is_terminal() or options.output == "csv":
        return str
    return partial(ago, now=clock.now())


def wants_colour() -> bool:
    """Tell whether the output may be coloured."""
    return is_terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def say(text: str) -> None:
    """Tell the user something that is no result: on stderr, so that pipes carry results alone."""
    click.echo(text, err=True)


def one_line(text: str) -> str:
    """Return a text with every character that is not printable shown as an escape."""
    if text.isprintable():
        return text
    return "".join(part if part.isprintable() else part.encode("unicode_escape").decode() for part in text)


def decoded(text: str) -> Any:
    """Return JSON text as a value, whatever it holds: what Python cannot decode becomes a text of it."""
    try:
        return json.loads(text, parse_int=_number)
    except RecursionError:
        return json.loads(shallow(text), parse_int=_number)


def _number(digits: str) -> int | str:
    try:
        return int(digits)
    except ValueError:  # more digits than Python converts
        return digits


OPENING, CLOSING, BRACKETS = {"[", "{"}, {"]", "}"}, {"[", "{", "]", "}"}
TOKENS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]|[^"\[\]{}]+')


def shallow(text: str) -> str:
    """Return JSON text with everything below a depth that Python can decode replaced by `"…"`."""
    kept: list[str] = []
    depth = 0
    for token in TOKENS.findall(text):
        depth -= token in CLOSING
        if depth < DEEPEST or (depth == DEEPEST and token not in BRACKETS):
            kept.append(token)
        elif depth == DEEPEST and token in OPENING:
            kept.append('"…"')
        depth += token in OPENING
    return "".join(kept)


def ago(text: str | None, now: datetime) -> str:
    """Return how far an instant of the API lies from `now`, in words for a table."""
    if not text:
        return ""
    seconds = (now - instant(text)).total_seconds()
    size = duration(abs(seconds))
    return f"{size} ago" if seconds >= 0 else f"in {size}"


def duration(seconds: float) -> str:
    """Return a time span in its largest unit: `45 s`, `3 min`, `7 h`, `12 d`."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{int(seconds // length)} {unit}"
    return f"{int(seconds)} s"


def instant(text: str) -> datetime:
    """Return an instant of the API."""
    return datetime.fromisoformat(text)


@contextmanager
def patience(doing: str) -> Iterator[None]:
    """Show what goes on, on a terminal, if the block takes longer than a second."""
    if not sys.stderr.isatty():
        yield
        return
    shown = threading.Event()

    def show() -> None:
        shown.set()
        click.echo(doing, err=True, nl=False)

    timer = threading.Timer(SLOW_S, show)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        if shown.is_set():
            click.echo("\r\x1b[K", err=True, nl=False)
