"""The list of lines and the code that writes them name the same."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import ayb_jobs
from ayb_jobs.events import DaemonDisabled
from ayb_jobs.logs import LINES, LogSubscriber
from ayb_jobs.logs.setup import Logs
from tests.logs.test_logs import logged

SOURCE = Path(ayb_jobs.__file__).parent
NAME = re.compile(r"[a-z_]+\.[a-z_]+")
# It is called like a line, and is an action.
ACTIONS = {"job.enqueue"}


def texts(file: Path) -> Iterator[str]:
    """Yield the texts that stand in a file's code."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_every_line_that_an_event_may_lead_to_is_in_the_list_whatever_the_event_holds() -> None:
    written = {text for name in ("wording", "subscriber") for text in texts(SOURCE / "logs" / f"{name}.py")}
    assert {name for name in written if NAME.fullmatch(name)} - ACTIONS - LINES.keys() == set()


def test_every_line_in_the_list_is_written_somewhere() -> None:
    written = {text for file in SOURCE.rglob("*.py") if file.name != "lines.py" for text in texts(file)}
    assert LINES.keys() - written == set()


def test_a_line_that_is_not_in_the_list_is_written_as_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ayb_jobs.logs.subscriber.LINES", {})

    def tell(logs: Logs) -> None:
        LogSubscriber(logs.logger)(DaemonDisabled())

    [entry] = logged(tell)
    assert (entry["level"], entry["event"]) == ("warning", "daemon.disabled")
