"""The blocks of docs/handlers.md that do something, with a daemon that runs what they enqueue."""

from typing import Any

import psycopg
import pytest

from ayb_jobs import JobContext, Registry
from tests.docs.reading import ROOT, blocks
from tests.running import running

DOCUMENT = ROOT / "docs" / "handlers.md"


def block(words: str) -> str:
    """Return the one Python block that holds these words."""
    (found,) = (one.text for one in blocks(DOCUMENT, "python") if words in one.text)
    return found


def do(text: str, url: str, **names: Any) -> dict[str, Any]:
    """Run a block, and return its names."""
    names = {"URL": url, "psycopg": psycopg, **names}
    exec(compile(text, str(DOCUMENT), "exec"), names)
    return names


def test_a_result_can_be_waited_for(database_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = block("resized = wait_for")
    registry = Registry()

    @registry.handler("resize", max_attempts=1)
    def resize(ctx: JobContext) -> dict[str, Any]:
        return {"height": ctx.payload["width"] * 2}

    with running(database_url, registry):
        assert do(text, database_url)["resized"] == {"height": 200}
        do(
            text.replace('{"width": 100}', "{}").replace('resize", payload', 'resize", max_attempts=1, payload'),
            database_url,
        )
    assert capsys.readouterr().out.startswith("KeyError: 'width'")
