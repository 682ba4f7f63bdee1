"""The tutorial, done as a reader does it."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.docs.reading import ROOT, blocks, shell_lines
from tests.eventually import eventually

TUTORIAL = ROOT / "docs" / "tutorial.md"
# What the reader's terminal has done already when the test begins.
DONE_BEFORE = ("make install", "source ", "mkdir ")
RUN = "ayb-jobs run"
STARTED = "daemon.started"


class Reader:
    """Someone with a folder, a terminal and a second one in which the daemon runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "daemon.log"
        self.job_id = ""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AYB_")}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.environ = inherited | {"PATH": path, "AYB_JOBS_API_PORT": "0"}

    def write_files(self) -> None:
        for block in blocks(TUTORIAL, "python", "toml"):
            self.folder.joinpath(block.text.splitlines()[0].removeprefix("# ")).write_text(block.text)

    def mend(self) -> None:
        """Do what the tutorial tells in words."""
        handlers = self.folder / "greetings.py"
        mended = re.search(r"write `(ctx\.payload\.get[^`]+)`", TUTORIAL.read_text())
        assert mended is not None
        handlers.write_text(handlers.read_text().replace("ctx.payload['name']", mended[1]))

    @contextmanager
    def daemon(self) -> Iterator[None]:
        """Run the daemon, and go on once it says that it has started, as the reader is told to."""
        started = self.log.read_text().count(STARTED) if self.log.exists() else 0
        with self.log.open("ab") as log:
            process = subprocess.Popen(RUN.split(), cwd=self.folder, env=self.environ, stdout=log, stderr=log)
            try:
                eventually(lambda: self.log.read_text().count(STARTED) > started, within_s=60)
                yield
            finally:
                process.send_signal(signal.SIGINT)
                assert process.wait(30) == 0, self.log.read_text()

    def type(self, command: str) -> str:
        """Run a command until it succeeds, since people are slower than tests, and return what it printed."""
        command = command.replace("ID", self.job_id)

        done = eventually(lambda: self._succeeds(command), within_s=20)
        made = re.match(r"job (\S+) is queued", done.stdout)
        self.job_id = made[1] if made else self.job_id
        return done.stdout

    def _succeeds(self, command: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["bash", "-c", command], cwd=self.folder, env=self.environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done

    def jobs(self, *arguments: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = json.loads(self.type(f"ayb-jobs jobs list --json {' '.join(arguments)}"))["items"]
        return items

    def has_logged(self, text: str) -> None:
        eventually(lambda: text in self.log.read_text(), within_s=20)


def test_the_tutorial_works_command_by_command(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    reader.write_files()
    lines = [line for block in blocks(TUTORIAL, "console") for line in shell_lines(block)]
    typed = [line for line in lines if not line.startswith(DONE_BEFORE)]
    before, after_run = typed[: typed.index(RUN)], typed[typed.index(RUN) + 1 :]
    retry = next(number for number, line in enumerate(after_run) if " retry " in line)
    for line in before:
        reader.type(line)
    with reader.daemon():
        for line in after_run[:retry]:
            reader.type(line)
        reader.has_logged("Hello, Ada!")
        reader.has_logged("Hello, Grace!")
        attempts = {job["payload"].get("name"): job["maxAttempts"] for job in reader.jobs()}
        assert attempts["Grace"] == 2  # as the handler declares
        eventually(lambda: [job["id"] for job in reader.jobs("--state", "failed")] == [reader.job_id])
        assert "KeyError" in reader.type("ayb-jobs jobs show ID")
    reader.mend()
    with reader.daemon():
        reader.type(after_run[retry])
        reader.has_logged("Hello, world!")
        for line in after_run[retry + 1 :]:
            reader.type(line)
            if " create " in line:
                reader.has_logged("Hello, Bob!")
