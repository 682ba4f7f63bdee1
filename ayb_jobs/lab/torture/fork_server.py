"""Starts daemons quickly: a process that has imported the daemon already forks a child for each start.

The child is a process like that of `ayb-jobs run`, with its own environment, log and connections. A fork saves half a
second of imports, which is most of what a run with many kills would cost.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

from ayb_jobs.config import load_config
from ayb_jobs.errors import DatabaseError
from ayb_jobs.handlers.kinds.table import KINDS
from ayb_jobs.process.service import run_service

END_S = 10.0
# What the daemons' configuration names, so that no child imports it anew. Like all that is imported here, it starts no
# thread, which a fork would lose.
HANDLERS = "ayb_jobs.lab.torture.workload"


class ForkServer:
    """The process that forks, for the time of a block. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changed = threading.Condition()
        self._started: list[int] = []
        self._codes: dict[int, int] = {}
        self._closed = False
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from ayb_jobs.lab.torture.fork_server import serve; serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, name="fork-server", daemon=True)
        self._reader.start()

    def start(self, config: Path, environ: Mapping[str, str], log: Path) -> "Child":
        """Start a daemon with a configuration file; it writes to `log`. Raises `DatabaseError` if it cannot."""
        order = json.dumps({"config": str(config), "environ": dict(environ), "log": str(log)})
        with self._lock, self._changed:
            assert self._process.stdin is not None
            self._process.stdin.write(order + "\n")
            self._process.stdin.flush()
            self._changed.wait_for(lambda: self._started or self._closed)
            if not self._started:
                raise DatabaseError("the process that starts the daemons is gone")
            return Child(self, self._started.pop())

    def code(self, pid: int, within_s: float = 0.0) -> int | None:
        """Wait for a child to end, and return its exit code, negative for a signal; None where it runs on."""
        with self._changed:
            self._changed.wait_for(lambda: pid in self._codes or self._closed, within_s)
            return -signal.SIGKILL if self._closed and pid not in self._codes else self._codes.get(pid)

    def close(self) -> None:
        """End it, and kill the children that still run."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(OSError):
            self._process.stdin.close()
        self._process.wait(END_S)
        self._reader.join(END_S)
        self._process.stdout.close()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            told = json.loads(line)
            with self._changed:
                if "ended" in told:
                    self._codes[told["ended"]] = told["code"]
                else:
                    self._started.append(told["started"])
                    self._codes.pop(told["started"], None)  # of an earlier child that had the same number
                self._changed.notify_all()
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class Child:
    """A process that a fork server started, used like a `subprocess.Popen`."""

    def __init__(self, fork_server: ForkServer, pid: int) -> None:
        self.pid = pid
        self._fork_server = fork_server

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        return self._fork_server.code(self.pid)

    def wait(self, timeout: float) -> int:
        """Wait for its end and return the exit code. Raises `subprocess.TimeoutExpired`."""
        code = self._fork_server.code(self.pid, timeout)
        if code is None:
            raise subprocess.TimeoutExpired("ayb-jobs", timeout)
        return code

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)


def serve() -> None:
    """Fork a daemon for each line on standard input; tell each start and each end on standard output."""
    importlib.import_module(HANDLERS)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the daemons, which end gracefully, and for the harness
    children: set[int] = set()

    def reap(_number: int, _frame: FrameType | None) -> None:
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                pid, status = ended
                children.discard(pid)
                _tell(ended=pid, code=os.waitstatus_to_exitcode(status))

    signal.signal(signal.SIGCHLD, reap)
    for line in sys.stdin:
        # A child that ends at once is told of after its start.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        pid = os.fork()
        if pid == 0:
            _become(**json.loads(line))
        children.add(pid)
        _tell(started=pid)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    for pid in list(children):
        os.kill(pid, signal.SIGKILL)


def _become(config: str, environ: dict[str, str], log: str) -> NoReturn:
    """Be a daemon until it ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    os.environ.clear()
    os.environ.update(environ)
    nowhere = os.open(os.devnull, os.O_RDONLY)
    written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for ours, theirs in ((nowhere, 0), (written, 1), (written, 2)):
        os.dup2(ours, theirs)
    os.close(nowhere)
    os.close(written)
    sys.exit(run_service(load_config(Path(config), os.environ, kinds=KINDS)))


def _tell(**what: int) -> None:
    os.write(1, json.dumps(what).encode() + b"\n")
