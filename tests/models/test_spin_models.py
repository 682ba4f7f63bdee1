"""The protocols are checked in every order of steps; each broken twin must yield a counterexample."""

import shutil
import subprocess
from pathlib import Path

import pytest

MODELS = sorted(Path(__file__).with_name("spin").glob("*.pml"))

pytestmark = pytest.mark.skipif(
    shutil.which("spin") is None or shutil.which("gcc") is None,
    reason="Spin or gcc is not installed: apt-get install spin gcc",
)


def verify(model: Path, folder: Path, *defines: str, liveness: bool) -> str:
    """Return what the verifier says of every order of steps."""
    generate = ["spin", "-a", *defines, str(model)]
    subprocess.run(generate, cwd=folder, check=True, capture_output=True)
    flags = ["-DNFAIR=4"] if liveness else ["-DSAFETY", "-DNOCLAIM"]
    subprocess.run(["gcc", "-O1", "-w", *flags, "-o", "pan", "pan.c"], cwd=folder, check=True, capture_output=True)
    run = ["./pan", "-a", "-f"] if liveness else ["./pan"]
    return subprocess.run(run, cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.stem)
def test_the_protocol_is_safe(model: Path, tmp_path: Path) -> None:
    said = verify(model, tmp_path, liveness=False)
    assert "errors: 0" in said, said
    assert "Search not completed" not in said


@pytest.mark.parametrize(
    "model", [model for model in MODELS if "ltl" in model.read_text()], ids=lambda model: model.stem
)
def test_the_protocol_comes_to_its_end(model: Path, tmp_path: Path) -> None:
    said = verify(model, tmp_path, liveness=True)
    assert "errors: 0" in said, said


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.stem)
def test_the_broken_twin_is_caught(model: Path, tmp_path: Path) -> None:
    said = verify(model, tmp_path, "-DBROKEN", liveness=False)
    assert "errors: 0" not in said
    assert "assertion violated" in said
