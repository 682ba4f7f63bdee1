"""How much room a text takes on a terminal."""

from unicodedata import category, east_asian_width

NONE = {"Mn", "Me", "Cf"}  # marks on the letter before


def cell_width(text: str) -> int:
    """Return how many columns of a terminal a printable text takes."""
    return len(text) if text.isascii() else sum(map(_width, text))


def cut(text: str, width: int) -> str:
    """Return a text that takes at most so many columns; if it was longer, it ends in `…`."""
    if cell_width(text) <= width:
        return text
    kept, used = "", 1
    for letter in text:
        used += _width(letter)
        if used > width:
            break
        kept += letter
    return f"{kept}…"


def _width(letter: str) -> int:
    if category(letter) in NONE:
        return 0
    return 2 if east_asian_width(letter) in "WF" else 1
