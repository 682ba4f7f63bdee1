"""docs/benchmarks.md is what its command writes of what was measured."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_benchmarks_and_their_charts_are_what_their_command_writes(tmp_path: Path) -> None:
    peers = tmp_path / "benchmarks/peers"
    shutil.copytree(ROOT / "benchmarks/peers", peers, ignore=shutil.ignore_patterns("installed", "__pycache__"))
    (tmp_path / "docs").mkdir()
    subprocess.run([sys.executable, str(peers / "run.py"), "--report"], check=True, cwd=ROOT)
    written = {path.name: path.read_text() for path in (tmp_path / "docs").iterdir()}
    committed = {path.name: path.read_text() for path in (ROOT / "docs").glob("benchmarks*")}
    assert written == committed
