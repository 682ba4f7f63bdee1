"""Somebody who follows a how-to page: writes its files, types its commands, and leaves nothing running."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from psycopg.conninfo import conninfo_to_dict

from tests.docs.reading import ROOT, Block, blocks, shell_lines
from tests.eventually import eventually

HOWTO = ROOT / "docs" / "howto"
LANGUAGES = ("console", "python", "toml", "sql", "js", "ruby", "php", "go", "ini")
# The first line of a block names its file.
NAMED = re.compile(r"(?:<\?php )?(?:#|//|--) ([\w./-]+\.\w+)")
# These run on, each in a terminal of its own.
RUNS_ON = re.compile(r"ayb-jobs run\b|uvicorn |flask .*\brun\b|manage\.py (runserver|ayb_jobs run)")
# What pages need beside Python and psql, and Debian's packages that have it.
PACKAGES = {"curl": "curl", "node": "nodejs", "ruby": "ruby-pg", "php": "php-cli php-pgsql", "go": "golang-go"}
NODE_MODULES = ROOT / "node_modules"
# Debian's packages of Go's libraries are here; with them no test downloads any.
GOPATH = "/usr/share/gocode"
# Pages serve HTTP here.
PORT = "8000"


class Walk:
    """Follows a page in a folder, with a database of its own."""

    def __init__(self, folder: Path, url: str, bin_dir: Path) -> None:
        self.folder = folder
        self.said: list[str] = []
        self.codes: list[int] = []  # of what ran on
        self._running: list[subprocess.Popen[bytes]] = []
        self._port = free_port()
        parts = conninfo_to_dict(url)
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith(("AYB_", "PG"))} | {
            "PATH": f"{Path(sys.executable).parent}:{bin_dir}:{os.environ['PATH']}",
            "DATABASE_URL": url,
            "AYB_JOBS_DATABASE_URL": url,
            "AYB_JOBS_API_ENABLED": "false",
            "NODE_PATH": str(NODE_MODULES),
            "GO111MODULE": "off",
            "GOPATH": GOPATH,
            "GOCACHE": str(folder / ".cache"),
            "PYTHONPATH": str(folder),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PGHOST": str(parts["host"]),
            "PGPORT": str(parts["port"]),
            "PGUSER": str(parts["user"]),
            "PGDATABASE": str(parts["dbname"]),
        }

    @classmethod
    @contextmanager
    def of(cls, page: str, folder: Path, url: str, bin_dir: Path) -> Iterator[Self]:
        """Follow a page, then do what the block does while what the page started runs on. psql is in `bin_dir`."""
        walk = cls(folder, url, bin_dir)
        try:
            for block in blocks(HOWTO / page, *LANGUAGES):
                walk.do(block)
            yield walk
        finally:
            walk.stop()

    def do(self, block: Block) -> None:
        """Write a block's file, or type its commands."""
        if block.language == "console":
            for line in shell_lines(block):
                self.type(line.replace(PORT, str(self._port)))
            return
        named = NAMED.match(block.text)
        assert named, f"{block.where}: the first line should name the file, in a comment"
        file = self.folder / named[1]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block.text)

    def type(self, line: str) -> None:
        """Type a command, and wait for its end unless it runs on."""
        if RUNS_ON.search(line):
            self._start(line)
            return
        done = subprocess.run(
            ["/bin/sh", "-c", line], cwd=self.folder, env=self.environ, capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}{self.logs()}"
        self.said.append(done.stdout + done.stderr)

    def _start(self, line: str) -> None:
        log = self.folder / f"{len(self._running)}.log"
        if serves := "ayb-jobs" not in line and "ayb_jobs" not in line:
            assert PORT not in line
        with log.open("wb") as output:
            self._running.append(
                subprocess.Popen(
                    ["/bin/sh", "-c", f"exec {line}"], cwd=self.folder, env=self.environ, stdout=output, stderr=output
                )
            )
        if serves:
            eventually(lambda: answers(self._port) or self._running[-1].poll() is not None, within_s=30)

    def logs(self) -> str:
        """Return what the commands that run on have said."""
        return "\n".join(file.read_text() for file in sorted(self.folder.glob("*.log")))

    def stop(self) -> None:
        """Stop what runs on, as Ctrl-C does; kill what does not end."""
        for process in self._running:
            process.send_signal(signal.SIGINT)
        for process in self._running:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
        self.codes = [process.wait() for process in self._running]


def missing(page: str) -> str | None:
    """Say what a page needs that is not installed; None if all is there."""
    typed = {line.split()[0] for block in blocks(HOWTO / page, "console") for line in shell_lines(block)}
    if "node" in typed and not (NODE_MODULES / "pg").exists():
        return "pg is not installed: npm install --no-save pg@8"
    if "go" in typed and not (Path(GOPATH) / "src" / "github.com" / "lib" / "pq").exists():
        return "Go's driver is not installed: apt-get install golang-github-lib-pq-dev"
    absent = [program for program in sorted(typed & PACKAGES.keys()) if shutil.which(program) is None]
    return f"{absent[0]} is not installed: apt-get install {PACKAGES[absent[0]]}" if absent else None


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
