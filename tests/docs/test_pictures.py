"""The picture of the README: it needs nothing from elsewhere, and shows what the program prints."""

import re
import subprocess
import sys
from itertools import pairwise
from xml.etree import ElementTree as ET

from ayb_jobs.logs.lines import LINES
from tests.docs.reading import ROOT

PICTURES = ROOT / "docs" / "pictures"
PICTURE = PICTURES / "first-run.svg"
SVG = "{http://www.w3.org/2000/svg}"


def texts(picture: ET.Element) -> list[str]:
    return [element.text or "" for element in picture.iter(f"{SVG}text")]


def test_the_picture_holds_no_link_script_or_font_of_elsewhere() -> None:
    elements = list(ET.fromstring(PICTURE.read_text()).iter())  # a file of ours
    assert {element.tag for element in elements} == {f"{SVG}{name}" for name in ("svg", "rect", "circle", "text")}
    assert not [name for element in elements for name in element.attrib if "href" in name or name in {"src", "style"}]


def test_columns_are_told_by_places_and_not_by_spaces() -> None:
    """A browser makes one space of several, and spreads what is left over the length of all."""
    shown = texts(ET.fromstring(PICTURE.read_text()))
    assert {"ATTEMPTS", "CREATED"} <= set(shown)
    assert [text for text in shown if "  " in text or text != text.strip()] == []


def test_the_picture_shows_lines_that_the_daemon_writes_and_commands_of_the_readme() -> None:
    shown = texts(ET.fromstring(PICTURE.read_text()))
    named = [text for text in shown if re.fullmatch(r"(daemon|schema|api|job|database|cleanup)\.[a-z_]+", text)]
    assert set(named) <= set(LINES)
    assert {"database.embedded", "api.started", "daemon.started", "job.completed", "daemon.stopped"} <= set(named)
    readme = (ROOT / "README.md").read_text()
    commands = [after for before, after in pairwise(shown) if before == "$"]
    assert len(commands) == 4
    assert all(f"$ {command}\n" in readme for command in commands)


def test_a_terminal_becomes_rows_of_runs_with_their_colours() -> None:
    program = "from window import drawing; print(drawing(['\\x1b[32mok\\x1b[0m  <b>\\r\\n' + 'x' * 12], columns=10))"
    drawn = subprocess.run([sys.executable, "-c", program], cwd=PICTURES, capture_output=True, text=True, check=True)
    elements = list(ET.fromstring(drawn.stdout).iter(f"{SVG}text"))
    assert [element.text for element in elements] == ["ok", "<b>", "x" * 10, "xx"]
    (green,) = {element.get("fill") for element in elements[:1]}
    assert green != elements[1].get("fill")
    assert elements[2].get("x") == elements[0].get("x")
    assert elements[3].get("y") != elements[2].get("y")
