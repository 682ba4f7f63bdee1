"""What a screen is made of: lines, how they look, and what can be acted on."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import click

from ayb_jobs.cli.output import one_line
from ayb_jobs.cli.widths import cut

SENTENCE_LINES = 3
STYLES: Mapping[str, Mapping[str, Any]] = {
    "": {},
    "title": {"bold": True},
    "soft": {"dim": True},
    "good": {"fg": "green"},
    "warn": {"fg": "yellow"},
    "bad": {"fg": "red"},
}


class Queue(NamedTuple):
    """The row of a queue."""

    name: str
    is_paused: bool

    @property
    def key(self) -> tuple[str, ...]:
        """What makes it this row, however it stands."""
        return ("queue", self.name)


class Running(NamedTuple):
    """The row of a job that runs."""

    id: str
    type: str

    @property
    def key(self) -> tuple[str, ...]:
        """What makes it this row."""
        return ("running", self.id)


class Failures(NamedTuple):
    """The row of failed jobs that have one type and one error."""

    type: str
    error: str

    @property
    def key(self) -> tuple[str, ...]:
        """What makes it this row."""
        return ("failures", self.type, self.error)


Target = Queue | Running | Failures


class Line(NamedTuple):
    """A line of the screen, with the name of its style, and what it is about if that can be acted on."""

    text: str
    style: str = ""
    target: Target | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """A terminal's size."""

    columns: int
    rows: int


def cut_to(lines: Sequence[Line], columns: int) -> Sequence[Line]:
    """Return lines that are no wider than the terminal, without control characters."""
    return [line._replace(text=cut(one_line(line.text), columns).rstrip()) for line in lines]


def painted(line: Line, *, colour: bool, is_chosen: bool = False) -> str:
    """Return a line as a terminal gets it; the chosen one stands in reverse, with or without colour."""
    style = dict(STYLES[line.style]) if colour and line.text else {}
    if is_chosen:
        style["reverse"] = True
    return click.style(line.text, **style) if style else line.text


def wrapped(text: str, columns: int, style: str = "") -> list[Line]:
    """Return a text in up to three lines."""
    parts = textwrap.wrap(one_line(text), max(1, columns), max_lines=SENTENCE_LINES, placeholder="…")
    return [Line(part, style) for part in parts]
