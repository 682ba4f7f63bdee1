"""The daemon's end of the spawner, the process that starts commands.

It begins with the first command, and again if it has died.
"""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ayb_jobs.children import end
from ayb_jobs.errors import AttemptFailed
from ayb_jobs.forks import keep_from_children

SCRIPT = Path(__file__).with_name("spawner_main.py")
# How long its end is waited for, once it has been told to kill what runs.
END_S = 5.0
TELLS = 4096
# How a send fails if nobody is there to receive; the last, if another thread found that out a moment ago.
DIED = frozenset({errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.EBADF})


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Whom a command runs as, by numbers."""

    uid: int
    gid: int
    groups: Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to start: a program's path, its arguments from its own name on, and what it finds around it.

    `limits` are most of what it may use, by the name of the kernel's limit. An empty `cwd` is the daemon's own.
    """

    program: str
    args: Sequence[str]
    env: Mapping[str, str]
    cwd: str = ""
    user: User | None = None
    limits: Mapping[str, int]

    def text(self) -> bytes:
        """Return the request as the spawner reads it."""
        user = self.user and {"uid": self.user.uid, "gid": self.user.gid, "groups": list(self.user.groups)}
        return json.dumps(
            {
                "program": self.program,
                "args": list(self.args),
                "env": dict(self.env),
                "cwd": self.cwd,
                "user": user,
                "limits": dict(self.limits),
            }
        ).encode()


class Link:
    """The way to one command: tells what becomes of it, and has it stopped. `stop` may come from any thread."""

    def __init__(self, ours: socket.socket) -> None:
        self._socket = ours
        self._lock = threading.Lock()

    def fileno(self) -> int:
        """Return the descriptor to wait on until something can be heard."""
        return self._socket.fileno()

    def hear(self) -> dict[str, Any] | None:
        """Return what the spawner tells: `pid`, then `exit` or `signal`; or `refused`. None if it has died."""
        try:
            text = self._socket.recv(TELLS)
        except OSError:
            text = b""
        return json.loads(text) if text else None

    def stop(self, grace_s: float) -> None:
        """Have the command's group stopped: SIGTERM now, SIGKILL after so many seconds."""
        with self._lock, suppress(OSError):
            self._socket.send(json.dumps({"stop": grace_s}).encode(), socket.MSG_DONTWAIT)

    def close(self) -> None:
        """Hear no more of the command. If it runs, its group is killed."""
        with self._lock:
            self._socket.close()


class Spawner:
    """Starts commands by way of its process. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._requests: socket.socket | None = None

    def start(self, request: Request, descriptors: Sequence[int]) -> Link:
        """Have a command started; it is given these descriptors: its standard input, output and notes.

        Raises `AttemptFailed` if it cannot be asked for.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self._send(request.text(), [*descriptors, theirs.fileno()])
            except BaseException:
                ours.close()
                raise
        return Link(ours)

    def _send(self, text: bytes, descriptors: Sequence[int]) -> None:
        for is_last in (False, True):
            requests = self._running()
            try:
                socket.send_fds(requests, [text], descriptors)
            except OSError as error:
                if is_last or error.errno not in DIED:
                    why = (error.strerror or str(error)).lower()
                    raise AttemptFailed(f"the command cannot be started: {why}") from None
                self._let_go(requests)
            else:
                return

    def _running(self) -> socket.socket:
        with self._lock:
            if self._process is not None and self._process.poll() is not None and self._requests is not None:
                self._requests.close()
                self._requests = None
            if self._requests is None:
                self._process, self._requests = _begin()
            return self._requests

    def _let_go(self, requests: socket.socket | None) -> None:
        """Send no more to a process that has died, or is to end; another thread may have begun a new one."""
        with self._lock:
            if requests is not None and requests is self._requests:
                requests.close()
                self._requests = None

    def close(self) -> None:
        """Have whatever still runs killed, and the process ended. May come twice, or before any command."""
        self._let_go(self._requests)
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            end(process, END_S)


def _begin() -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start the process. It is in a session of its own, so that no terminal stops it before the daemon."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    keep_from_children(ours)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(SCRIPT), str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env={},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
    return process, ours


def kill_group(pid: int) -> None:
    """Kill the group of a command whose spawner has died."""
    with suppress(OSError):
        os.killpg(pid, signal.SIGKILL)
