"""Terminals as SVG. The file needs nothing from elsewhere: no font, no style sheet, no script."""

import re
from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

COLUMN, LINE, MARGIN, BAR = 8, 18, 16, 28
BACKGROUND, BAR_COLOUR, TEXT, DIM = "#0d1117", "#161b22", "#d6dde6", "#7d8894"
COLOURS = {
    31: "#ff7b72",
    32: "#7ee787",
    33: "#e3b341",
    34: "#79c0ff",
    35: "#d2a8ff",
    36: "#76d9e6",
    37: TEXT,
    90: DIM,
}
FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
# Browsers make one space of several, so those are left out.
WORDS = re.compile(r"\S+(?: \S+)*")
SGR = re.compile(r"\x1b\[([\d;]*)m")
OTHER = re.compile(r"\x1b\[[?\d;]*[A-Za-ln-z]|\x1b\].*?(?:\x07|\x1b\\)")


class Look(NamedTuple):
    """How a character looks."""

    colour: str = TEXT
    bold: bool = False
    dim: bool = False


class Run(NamedTuple):
    """Characters of a line that look alike, and the column where they begin."""

    column: int
    text: str
    look: Look


Row = Sequence[tuple[str, Look]]


def drawing(windows: Sequence[str], *, columns: int) -> str:
    """Return one SVG with a window for each text, one below the other."""
    width = columns * COLUMN + 2 * MARGIN
    y, parts = 0, list[str]()
    for text in windows:
        lines = [list(runs(row)) for row in rows(text, columns)]
        parts += window(lines, y, width)
        y += height(lines) + MARGIN
    size = f'width="{width}" height="{y - MARGIN}" viewBox="0 0 {width} {y - MARGIN}"'
    style = f'font-family="{FONT}" font-size="13.3"'
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>', *parts, "</svg>", ""])


def height(lines: Sequence[object]) -> int:
    """Return how high a window with so many lines is."""
    return BAR + MARGIN + LINE * len(lines) + MARGIN // 2


def window(lines: Sequence[Sequence[Run]], y: int, width: int) -> Iterator[str]:
    """Yield a window's elements."""
    yield f'<rect y="{y}" width="{width}" height="{height(lines)}" rx="8" fill="{BACKGROUND}"/>'
    yield f'<rect y="{y}" width="{width}" height="{BAR}" rx="8" fill="{BAR_COLOUR}"/>'
    for at, colour in enumerate((31, 33, 32)):
        yield f'<circle cx="{18 + 18 * at}" cy="{y + BAR // 2}" r="5" fill="{COLOURS[colour]}"/>'
    for number, line in enumerate(lines, 1):
        for run in line:
            yield element(run, y + BAR + LINE * number)


def element(run: Run, y: int) -> str:
    """Return one run as an element; its length is given, so that columns stand below one another in any font."""
    weight = ' font-weight="bold"' if run.look.bold else ""
    place = f'x="{MARGIN + COLUMN * run.column}" y="{y}" textLength="{COLUMN * len(run.text)}"'
    fill = DIM if run.look.dim else run.look.colour
    return f'<text {place} fill="{fill}"{weight}>{escape(run.text, quote=False)}</text>'


def runs(row: Row) -> Iterator[Run]:
    """Yield what is to be seen in a row."""
    column = 0
    for look, cells in groupby(row, key=itemgetter(1)):
        text = "".join(character for character, _ in cells)
        for seen in WORDS.finditer(text):
            yield Run(column + seen.start(), seen[0], look)
        column += len(text)


def rows(text: str, columns: int) -> Iterator[Row]:
    """Yield the rows of a terminal; lines that are too long go on in the next row."""
    look = Look()
    for line in OTHER.sub("", text).replace("\r", "").rstrip().split("\n"):
        row: list[tuple[str, Look]] = []
        for number, piece in enumerate(SGR.split(line)):
            if number % 2:
                look = changed(look, piece)
            else:
                row += [(character, look) for character in piece]
        yield from (row[at : at + columns] for at in range(0, max(len(row), 1), columns))


def changed(look: Look, codes: str) -> Look:
    """Return the look after a sequence of SGR codes such as `1;32`."""
    for code in [int(code or 0) for code in codes.split(";")]:
        match code:
            case 0:
                look = Look()
            case 1:
                look = look._replace(bold=True)
            case 2:
                look = look._replace(dim=True)
            case _:
                look = look._replace(colour=COLOURS.get(code, look.colour))
    return look
