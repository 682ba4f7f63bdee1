"""docs/flow-control.md, block by block."""

from collections import Counter
from typing import Any

import pytest

from ayb_jobs.storage.database import Connection
from tests.docs.reading import ROOT, blocks

DOCUMENT = ROOT / "docs" / "flow-control.md"


@pytest.mark.parametrize(
    "text", [block.text for block in blocks(DOCUMENT, "python")], ids=["uniqueness", "dependencies", "batches"]
)
def test_each_example_of_python_runs(text: str, conn: Connection) -> None:
    names: dict[str, Any] = {"conn": conn}
    exec(text, names)  # our own document
    made = Counter(row[0] for row in conn.execute("SELECT type FROM _ayb_jobs"))
    assert made in (
        {"sync": 1, "reindex": 1},
        {"fetch": 1, "resize": 3, "join": 1, "clean_up": 1, "thumbnail": 100},
        {"render": 101, "index": 1},
    )
