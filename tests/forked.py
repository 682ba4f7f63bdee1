"""Starts the program as a fork of a process that has imported it, in milliseconds instead of a second.

What comes of it is a process of its own, a child of the test's, with the arguments, environment, folder, descriptors,
session and process group that it was started with. It differs from one that is executed in what the interpreter does
before and after the program: tests of start and end execute it.
"""

import atexit
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from ctypes import CDLL, get_errno
from functools import cache
from inspect import signature
from pathlib import Path
from typing import Any

from tests import leaks

ROOT = Path(__file__).parent.parent
MODULE = [sys.executable, "-m", "ayb_jobs"]
SCRIPTS = {Path(sys.executable).with_name(name) for name in ("ayb-jobs", "ayb")}
# The interpreter or the loader reads these as it starts, all but those that `tests.fork_server` obeys itself.
READ_AT_START = ("PYTHON", "LD_", "MALLOC_", "GLIBC_", "LC_", "LANG")
OBEYED = {"PYTHONPATH", "PYTHONDONTWRITEBYTECODE"}
SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER
# What `Popen` has its own method do, and how it names the descriptors.
AS_POPEN = signature(vars(subprocess.Popen)["_execute_child"])
LEFT_TO_POPEN = ("executable", "preexec_fn", "pass_fds", "shell", "gid", "gids", "uid")
STREAMS = ("p2cread", "c2pwrite", "errwrite")
PIPES = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
LIBC = CDLL(None, use_errno=True)
AT_START = dict(os.environ)
OF_PYTHON = {signal.SIGPIPE, signal.SIGXFSZ}


def start(command: Sequence[str | os.PathLike[str]], **options: Any) -> subprocess.Popen[bytes]:
    """Do what `Popen` does, by a fork if the command is the program in an environment like this one's."""
    kind = Forked if is_forkable(command, options.get("env") or os.environ) else subprocess.Popen
    return kind(command, **options)


def run(
    command: Sequence[str | os.PathLike[str]], *, timeout: float = 60, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Do what `subprocess.run` does, with what the command prints as text, by a fork if `start` does."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
    process: Any = start(command, **options)
    with process:
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def is_forkable(command: Sequence[str | os.PathLike[str]], environ: Mapping[str, str]) -> bool:
    """Whether a command runs the program, in an environment that is the server's for the interpreter itself."""
    ours, theirs = ({name: value for name, value in env.items() if is_read(name)} for env in (AT_START, environ))
    return ours == theirs and (list(map(str, command[:3])) == MODULE or Path(command[0]) in SCRIPTS)


def is_read(name: str) -> bool:
    return name.startswith(READ_AT_START) and name not in OBEYED


class Forked(subprocess.Popen[bytes]):
    """A `Popen` whose process is forked from one that has imported the program."""

    def _execute_child(self, *given: Any) -> None:
        told = AS_POPEN.bind(self, *given).arguments
        assert not any(told[name] for name in LEFT_TO_POPEN), told
        try:
            self.pid = server().fork(
                {
                    "command": list(map(str, told["args"])),
                    "environ": dict(os.environ if told["env"] is None else told["env"]),
                    "folder": str(told["cwd"] or Path.cwd()),
                    "umask": told["umask"],
                    "session": told["start_new_session"],
                    "ignored": ignored(),
                    "group": os.getpgrp() if told["process_group"] < 0 else told["process_group"],
                },
                [number if told[name] < 0 else told[name] for number, name in enumerate(STREAMS)],
            )
            self._child_created = True
        finally:
            self._close_pipe_fds(*(told[name] for name in PIPES))  # type: ignore[attr-defined] # its own


def ignored() -> list[int]:
    """Return the signals that an executed process would inherit as ignored. Python has its own two as usual again.

    As the kernel has it: a library may have told it without Python's knowing.
    """
    mask = int(re.findall(r"SigIgn:\s*(\w+)", Path("/proc/self/status").read_text())[0], 16)
    return [number for number in signal.valid_signals() - OF_PYTHON if mask >> (number - 1) & 1]


class Server:
    """The process that is forked; see `tests.fork_server`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.fork_server", str(theirs.fileno())],
                cwd=ROOT,
                env=AT_START,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                process_group=0,  # Ctrl-C is for those whom it forks
            )
        leaks.keep(self._ours.fileno())

    def fork(self, order: Mapping[str, Any], streams: Sequence[int]) -> int:
        """Have the server fork a process with these standard streams, and return its number: it is our child."""
        with self._lock, adopting():
            socket.send_fds(self._ours, [json.dumps(order).encode()], streams)
            answer = self._ours.recv(64)
        assert answer, "the fork server has ended; see its error above"
        return int(answer)

    def close(self) -> None:
        self._ours.close()
        self._process.wait(30)


@cache
def server() -> Server:
    """Return this process's server, which is started when it is first asked for and ends with this process."""
    found = Server()
    atexit.register(found.close)
    return found


@contextmanager
def adopting() -> Iterator[None]:
    """Within the block, have processes below this one become its children when their parent ends."""
    become_subreaper(1)
    try:
        yield
    finally:
        become_subreaper(0)


def become_subreaper(how: int) -> None:
    if LIBC.prctl(SUBREAPER, how, 0, 0, 0):
        raise OSError(get_errno(), "prctl")
