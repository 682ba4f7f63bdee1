"""Printing: tables for people, tab-separated lines for pipes, JSON for programs.

What others wrote (types, errors, payloads) may hold anything: control characters are shown, never sent to a terminal.
"""

import json
import os
import re
import shutil
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

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
GAP = 2  # between the columns of a table


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

    texts = [[one_line(cell) for cell in row] for row in rows]
    widths = widths_that_fit(columns, texts, shutil.get_terminal_size().columns)
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for index, width in widths.items():
        column = columns[index]
        justify: Literal["left", "right"] = "right" if column.right else "left"
        table.add_column(column.title, width=width, no_wrap=True, overflow="ellipsis", justify=justify)
    for number, row in enumerate(texts):
        style = styles[number] if styles else ""
        table.add_row(*(Text(row[index], style=style if columns[index].title == "STATE" else "") for index in widths))
    # A terminal narrower than the keys is left to wrap them.
    whole = sum(widths.values()) + GAP * len(widths)
    Console(width=whole, highlight=False, force_terminal=wants_colour()).print(table)


def widths_that_fit(columns: Sequence[Column], rows: Sequence[Sequence[str]], room: int) -> dict[int, int]:
    """Return the widths of the columns that there is room for, by their index: a flexible one takes what is left."""
    from rich.cells import cell_len  # noqa: PLC0415 - only people need it

    whole = [max([len(column.title), *(cell_len(row[index]) for row in rows)]) for index, column in enumerate(columns)]
    least = [len(column.title) if column.flexible else whole[index] for index, column in enumerate(columns)]
    widths: dict[int, int] = {}
    used = 0
    for index, column in enumerate(columns):
        if column.key or used + least[index] <= room:
            widths[index] = least[index]
            used += least[index] + GAP
    for index in widths:
        if columns[index].flexible:
            widths[index] = min(whole[index], least[index] + max(0, room - used + GAP))
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


def is_terminal() -> bool:
    """Tell whether a person reads the output."""
    return sys.stdout.isatty()


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
