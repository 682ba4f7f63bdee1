"""`ayb-jobs torture` as its user meets it."""

import signal
import subprocess
from pathlib import Path

import pytest

from ayb_jobs.cli.exits import ExitCode
from tests.cli.processes import PROGRAM, environment
from tests.eventually import eventually


# What ends a command by the one signal ends it by the other: `end_as_by_ctrl_c`, and `test_stopping.py`.
@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
def test_a_run_that_is_stopped_amid_a_fault_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    told = tmp_path / "told"
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    command: list[str | Path] = [PROGRAM, "torture", "--seconds", "60", "--daemons", "2", "--faults", "log_pipe=60"]
    with told.open("wb") as file:
        run = subprocess.Popen(command, env=environment({"TMPDIR": str(temporary)}), stdout=file, stderr=file)
        eventually(lambda: is_stopping(temporary), within_s=60)
        run.send_signal(number)
        assert run.wait(60) == ExitCode.INTERRUPTED
    assert "Traceback" not in told.read_text()
    assert list(temporary.iterdir()) == []
    assert not processes_that_name(temporary)


def is_stopping(folder: Path) -> bool:
    """Tell whether a fault has asked a daemon to stop."""
    return any("daemon.stopping" in log.read_text() for log in folder.glob("ayb-jobs-torture-*/daemon*.log"))


def processes_that_name(folder: Path) -> list[str]:
    """Return the command lines and the environments that name a folder, of all processes there are."""
    found = []
    for file in Path("/proc").glob("[0-9]*/environ"):
        try:
            text = file.read_bytes() + file.with_name("cmdline").read_bytes()
        except OSError:
            continue  # it has ended
        if str(folder).encode() in text:
            found.append(text.decode(errors="replace"))
    return found
