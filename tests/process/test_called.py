"""How the program was called."""

import sys
from pathlib import Path

import pytest

from ayb_jobs.process.called import as_called


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    script = tmp_path / "bin" / "ayb-jobs"
    script.parent.mkdir()
    script.touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/usr/bin")
    return script


def test_a_program_that_the_shell_finds_is_called_by_its_name(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(script.parent))
    monkeypatch.setattr(sys, "argv", [str(script), "run"])
    assert as_called() == "ayb-jobs"


def test_one_that_it_does_not_find_is_called_by_its_path(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for called in (str(script), "bin/ayb-jobs"):
        monkeypatch.setattr(sys, "argv", [called, "run"])
        assert as_called() == "bin/ayb-jobs"
    monkeypatch.chdir(script.parent)
    monkeypatch.setattr(sys, "argv", [str(script), "run"])
    assert as_called() == "./ayb-jobs"
    (script.parent / "elsewhere").mkdir()
    monkeypatch.chdir(script.parent / "elsewhere")
    monkeypatch.setattr(sys, "argv", [str(script), "run"])
    assert as_called() == str(script)


def test_a_module_is_called_as_one(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/site/ayb_jobs/__main__.py", "run"])
    monkeypatch.setattr(sys, "executable", str(script.with_name("python")))
    assert as_called() == "bin/python -m ayb_jobs"


def test_another_programs_command_is_called_by_the_words_that_it_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["python manage.py ayb_jobs", "run"])
    assert as_called() == "python manage.py ayb_jobs"
