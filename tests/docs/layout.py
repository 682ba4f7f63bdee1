"""Draws the layout in `docs/architecture.md` from the packages' own docstrings: `python -m tests.docs.layout`."""

import ast
from pathlib import Path

from tests.docs.reading import ROOT

PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- layout: python -m tests.docs.layout -->\n", "<!-- end of the layout -->\n"
PACKAGE = ROOT / "ayb_jobs"


def redrawn(text: str) -> str:
    """Return the page with its layout drawn anew."""
    above, _, rest = text.partition(BEGIN)
    _, _, below = rest.partition(END)
    return f"{above}{BEGIN}\n{drawing()}\n{END}{below}"


def drawing() -> str:
    """Return a row for each package, and for each file that stands beside them, with its docstring's first line."""
    places = [
        PACKAGE,
        *sorted(PACKAGE.glob("*.py")),
        *sorted(folder.parent for folder in PACKAGE.rglob("*/__init__.py")),
    ]
    rows = [f"| `{name(place)}` | {story(place)} |\n" for place in places if place.name != "__init__.py"]
    return "| place | what it is |\n|---|---|\n" + "".join(rows)


def name(place: Path) -> str:
    """Return a place as the page names it: below `ayb_jobs/`, a folder with a slash at its end."""
    return f"{place.relative_to(PACKAGE.parent if place == PACKAGE else PACKAGE)}{'/' if place.is_dir() else ''}"


def story(place: Path) -> str:
    """Return the first line of a place's docstring."""
    file = place / "__init__.py" if place.is_dir() else place
    told = ast.get_docstring(ast.parse(file.read_text("utf-8")))
    assert told, f"{file} has no docstring"
    return told.splitlines()[0].replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(redrawn(PAGE.read_text("utf-8")), "utf-8")
