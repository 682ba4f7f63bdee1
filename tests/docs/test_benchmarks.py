"""docs/benchmarks.md is what its command writes of what was measured, and the README says no other figures."""

import re
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


def test_the_readme_says_the_figures_of_the_drain() -> None:
    """If new figures are published, the README's line is to be written anew."""
    sections = re.split(r"(?m)^## ", (ROOT / "docs/benchmarks.md").read_text())
    drains = [section for section in sections if section.startswith("Drain of ")]
    (named,) = (section for section in drains if section.startswith("Drain of 100,000\n"))
    ours = re.search(r"(?m)^\| ayb-jobs \| defaults \|.*?\| (\S+) \[(\S+) to (\S+)\]", named)
    assert ours is not None
    times = sorted(min(re.findall(r"(?m)^\| (?!ayb-jobs ).* (\d+\.\d+) \|$", drain), key=float) for drain in drains)
    readme = (ROOT / "README.md").read_text()
    assert f"{ours[1]} jobs a second ({ours[2]} to {ours[3]})" in readme
    assert f"{times[0]} to {times[-1]} times as fast as in the next queue" in readme
