"""Text that others wrote: no form of output sends a control character of it to a terminal."""

import json
import sys
import unicodedata

import pytest

from ayb_jobs.cli import output
from ayb_jobs.cli.output import Column

# All that steers a terminal or turns text around: C0, C1, format characters (bidirectional ones), separators, lone
# surrogates.
HOSTILE = [
    letter
    for letter in map(chr, range(sys.maxunicode + 1))
    if unicodedata.category(letter) in {"Cc", "Cf", "Cs", "Zl", "Zp"}
]
TEXT = "".join(f"<{letter}>" for letter in HOSTILE)
COLUMNS = [Column(title="ID", key=True), Column(title="ERROR", flexible=True)]


@pytest.fixture
def on_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have output take what it writes to for a terminal."""
    monkeypatch.setattr("ayb_jobs.cli.output.is_terminal", lambda: True)


def printed(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


def test_there_are_hostile_characters_of_all_kinds() -> None:
    assert {"\x00", "\x1b", "\x7f", "\x80", "\x9b", "\u061c", "\u200e", "\u202e", "\u2066", "\u2028", "\ud800"} <= set(
        HOSTILE
    )


@pytest.mark.usefixtures("on_terminal")
@pytest.mark.parametrize("form", [None, "table", "csv"])
def test_no_table_sends_a_control_character_to_a_terminal(form: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(COLUMNS, [["1", TEXT]], form=form)
    assert not set(HOSTILE) & (set(printed(capsys)) - {"\n", "\x1b"})


@pytest.mark.usefixtures("on_terminal")
def test_fields_send_no_control_character_to_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    output.print_fields({"Error": TEXT}, {})
    assert not set(HOSTILE) & (set(printed(capsys)) - {"\n"})


@pytest.mark.usefixtures("on_terminal")
@pytest.mark.parametrize(
    "text", [json.dumps({"error": TEXT}), json.dumps({"error": TEXT}, ensure_ascii=False)], ids=["escapes", "as it is"]
)
def test_json_sends_no_control_character_to_a_terminal_and_means_the_same(
    capsys: pytest.CaptureFixture[str], text: str
) -> None:
    output.print_json(text)
    shown = printed(capsys)
    assert not set(HOSTILE) & (set(shown) - {"\n"})
    assert json.loads(shown) == {"error": TEXT}


@pytest.mark.usefixtures("on_terminal")
def test_json_that_python_cannot_decode_is_shown_without_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json("[" * 5000 + "\x9b\u202e" + "]" * 5000)
    assert not set(HOSTILE) & (set(printed(capsys)) - {"\n"})


@pytest.mark.parametrize("form", [None, "csv"])
def test_a_pipe_gets_one_line_for_each_row(form: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(COLUMNS, [["1", TEXT], ["2", "a,b"]], form=form)
    assert len(printed(capsys).splitlines()) == 3
