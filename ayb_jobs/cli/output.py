"""Printing: tables for people, tab-separated lines for pipes, JSON for programs.

What others wrote (types, errors, payloads) may hold anything: control characters are shown, never sent to a terminal.
"""

import json
import re
import shutil
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import click

STATE_STYLES = {
    "queued": "cyan",
    "running": "blue",
    "completed": "green",
    "failed": "red",
    "canceled": "yellow",
}
SLOW_S = 1.0
DEEPEST = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table. `key` columns are never cut; the others go, the last first, where the terminal is narrow."""

    title: str
    key: bool = False
    right: bool = False
    flexible: bool = False


def print_json(text: str) -> None:
    """Print JSON text as UTF-8, whatever the terminal's encoding; indented where a person reads it."""
    if is_terminal():
        with suppress(RecursionError, ValueError):  # what Python cannot decode is shown as it is
            text = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    click.echo(f"{text}\n".encode(), nl=False)


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[str]], styles: Sequence[str] = ()) -> None:
    """Print a table, or tab-separated lines where no terminal is there; `styles` are the rows' colours."""
    if not is_terminal():
        for row in ([column.title for column in columns], *rows):
            click.echo("\t".join(map(one_line, row)))
        return
    from rich.console import Console  # noqa: PLC0415 - only people need it
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    width = shutil.get_terminal_size().columns
    shown = columns_that_fit(columns, rows, width)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for index in shown:
        column = columns[index]
        table.add_column(
            column.title,
            no_wrap=True,
            overflow="ellipsis",
            justify="right" if column.right else "left",
            min_width=width_of(column, index, rows) if column.key else None,
        )
    for number, row in enumerate(rows):
        style = styles[number] if styles else ""
        table.add_row(
            *(Text(one_line(row[index]), style=style if columns[index].title == "STATE" else "") for index in shown)
        )
    Console(width=max(width, width_of(columns[0], 0, rows)), highlight=False, soft_wrap=False).print(table)


def columns_that_fit(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[int]:
    """Return the indexes of the columns that a width has room for; flexible ones count with their titles alone."""
    shown: list[int] = []
    used = 0
    for index, column in enumerate(columns):
        needed = len(column.title) if column.flexible else width_of(column, index, rows)
        if not column.key and used + needed > width:
            continue
        shown.append(index)
        used += needed + 2
    return shown


def width_of(column: Column, index: int, rows: Sequence[Sequence[str]]) -> int:
    """Return how wide a column is when nothing in it is cut."""
    from rich.cells import cell_len  # noqa: PLC0415 - only people need it

    return max([len(column.title), *(cell_len(one_line(row[index])) for row in rows)])


def print_fields(fields: Mapping[str, str], styles: Mapping[str, str]) -> None:
    """Print names and values in two columns, a value of several lines below each other; `styles` are colours."""
    longest = max(map(len, fields), default=0)
    for name, value in fields.items():
        title = click.style(name.ljust(longest), bold=True)
        for line in value.splitlines() or [""]:
            click.echo(f"{title}  {click.style(one_line(line), fg=styles.get(name))}".rstrip())
            title = " " * longest


def is_terminal() -> bool:
    """Tell whether a person reads the output."""
    return sys.stdout.isatty()


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


def ago(text: str | None, now: datetime | None = None) -> str:
    """Return how far an instant of the API lies from now, in words for a table."""
    if not text:
        return ""
    seconds = ((now or datetime.now(UTC)) - instant(text)).total_seconds()
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
    """Show what goes on, on a terminal, where the block takes longer than a second."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console  # noqa: PLC0415 - only people need it

    status = Console(stderr=True).status(doing)
    timer = threading.Timer(SLOW_S, status.start)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        status.stop()
