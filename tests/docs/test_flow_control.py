"""docs/flow-control.md, block by block."""

import shlex
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ayb_jobs.config import load_config
from ayb_jobs.handlers.kinds.table import KINDS
from ayb_jobs.model.limits import NewLimit
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.limits import set_limit
from tests.cli.processes import PROGRAM, environment
from tests.docs.reading import ROOT, blocks
from tests.factories import make_job

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


def test_each_command_says_what_the_page_says(conn: Connection, database_url: str) -> None:
    """The pause of a key is of a limit that an earlier block removes: it is there again by then."""
    for _ in range(3):
        make_job(conn, "running", queue="reports")
    ran = 0
    for block in blocks(DOCUMENT, "console"):
        command, said = list[str](), list[str]()
        for line in block.text.splitlines():
            if not line.startswith("$ "):
                assert line in said, f"{shlex.join(command)} says: {said}"
                continue
            command = shlex.split(line[2:])
            assert command.pop(0) == "ayb-jobs"
            if command[0] == "keys":
                with conn.transaction():
                    set_limit(conn, NewLimit(name="api", types=["sync"], key_max_running=3), by="ada")
            environ = environment({"AYB_JOBS_DATABASE_URL": database_url})
            done = subprocess.run([PROGRAM, *command], env=environ, capture_output=True, text=True, check=False)
            said = (done.stdout + done.stderr).splitlines()
            assert done.returncode == 0, said
            ran += 1
    assert ran >= 7


def test_each_piece_of_a_configuration_is_one(tmp_path: Path) -> None:
    pieces = [block.text for block in blocks(DOCUMENT, "toml")]
    assert len(pieces) >= 2
    for text in pieces:
        (tmp_path / "ayb-jobs.toml").write_text(text)
        load_config(tmp_path / "ayb-jobs.toml", {"AYB_JOBS_DATABASE_URL": "postgresql:///x"}, kinds=KINDS)
