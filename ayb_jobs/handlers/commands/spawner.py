"""The daemon's end of the spawners, the processes that start commands.

The first begins with the first command, and another if one has died.
"""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from ayb_jobs.children import end
from ayb_jobs.errors import AttemptFailed
from ayb_jobs.forks import keep_from_children
from ayb_jobs.frozen import frozen

SCRIPT = Path(__file__).with_name("spawner_main.py")
# A program takes its time to be loaded, mostly the kernel's: more of them at once than a few is no faster.
MOST_PROCESSES = 4
# How long the end of one is waited for, once it has been told to kill what runs.
END_S = 5.0
TELLS = 4096
# How a send fails if nobody is there to receive; the last, if another thread found that out a moment ago.
DIED = frozenset({errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.EBADF})


@frozen
class User:
    """Whom a command runs as, by numbers."""

    uid: int
    gid: int
    groups: Sequence[int]


@frozen
class Request:
    """What to start: a program's path, its arguments from its own name on, and what it finds around it.

    `env` is what all commands of a job type are given, `own` what this one is, which goes before it. `limits` are most
    of what it may use, by the name of the kernel's limit. An empty `cwd` is the daemon's own.
    """

    program: str
    args: Sequence[str]
    env: Mapping[str, str]
    own: Mapping[str, str] = MappingProxyType({})
    cwd: str = ""
    user: User | None = None
    limits: Mapping[str, int]

    def text(self) -> bytes:
        """Return the request as the spawner reads it."""
        user = None if self.user is None else (self.user.uid, self.user.gid, tuple(self.user.groups))
        shared = Shared(
            self.program, tuple(self.args), tuple(self.env.items()), self.cwd, user, tuple(self.limits.items())
        )
        return f'{shared_text(shared)},"own":{json.dumps(dict(self.own))}}}'.encode()


class Shared(NamedTuple):
    """What the requests of a job type have alike."""

    program: str
    args: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    cwd: str
    user: tuple[int, int, tuple[int, ...]] | None
    limits: tuple[tuple[str, int], ...]


@lru_cache(maxsize=256)
def shared_text(shared: Shared) -> str:
    """Return that as the beginning of a JSON object."""
    user = shared.user and dict(zip(("uid", "gid", "groups"), shared.user, strict=True))
    written = shared._asdict() | {"env": dict(shared.env), "user": user, "limits": dict(shared.limits)}
    return json.dumps(written)[:-1]


class Link:
    """The way to one command: tells what becomes of it, and has it stopped. `stop` may come from any thread."""

    def __init__(self, ours: socket.socket, let_go: Callable[[], object]) -> None:
        self._socket = ours
        self._lock = threading.Lock()
        self._let_go = let_go

    def fileno(self) -> int:
        """Return the descriptor to wait on until something can be heard."""
        return self._socket.fileno()

    def hear(self) -> tuple[str, str]:
        """Return what the spawner tells: `pid`, then `exit` or `signal`, and the number; or `refused`, and why.

        What it tells is empty if it has died.
        """
        try:
            text = self._socket.recv(TELLS)
        except OSError:
            text = b""
        what, _, how = text.decode().partition(" ")
        return what, how

    def stop(self, grace_s: float) -> None:
        """Have the command's group stopped: SIGTERM now, SIGKILL after so many seconds."""
        with self._lock, suppress(OSError):
            self._socket.send(b"%f" % grace_s, socket.MSG_DONTWAIT)

    def close(self) -> None:
        """Hear no more of the command. If it runs, its group is killed."""
        with self._lock:
            self._socket.close()
        self._let_go()


class Process:
    """One process that starts commands, and how many it has to see to."""

    def __init__(self) -> None:
        self.popen, self.requests = _begin()
        self.commands = 0

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.popen.pid


class Spawner:
    """Starts commands by way of its processes. Threads may share it.

    A process waits for each program that it starts to be loaded, so that one alone would start them one after another.
    Another begins, up to `MOST_PROCESSES`, if a command is to start and all of them have commands that run.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._processes: list[Process] = []

    def start(self, request: Request, descriptors: Sequence[int]) -> Link:
        """Have a command started; it is given these descriptors: its standard input, output and notes.

        Raises `AttemptFailed` if it cannot be asked for.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.setblocking(False)
        with theirs:
            try:
                process = self._send(request.text(), [*descriptors, theirs.fileno()])
            except BaseException:
                ours.close()
                raise
        return Link(ours, partial(self._note_end, process))

    def pids(self) -> Sequence[int]:
        """Return the ids of its processes."""
        with self._lock:
            return [process.pid for process in self._processes]

    def close(self) -> None:
        """Have whatever still runs killed, and the processes ended. May come twice, or before any command."""
        with self._lock:
            processes, self._processes = self._processes, []
        for process in processes:
            process.requests.close()
        for process in processes:
            end(process.popen, END_S)

    def _send(self, text: bytes, descriptors: Sequence[int]) -> Process:
        """Send a request to the process that has the least to do; return that process."""
        tries_left = MOST_PROCESSES  # all may have been killed a moment ago
        while True:
            process = self._least_busy()
            try:
                socket.send_fds(process.requests, [text], descriptors)
            except OSError as error:
                self._note_end(process)
                if not tries_left or error.errno not in DIED:
                    why = (error.strerror or str(error)).lower()
                    raise AttemptFailed(f"the command cannot be started: {why}") from None
                self._let_go(process)
                tries_left -= 1
            else:
                return process

    def _least_busy(self) -> Process:
        """Return the process that has the fewest commands, and count one more."""
        with self._lock:
            process = min(self._processes, key=lambda process: process.commands, default=None)
            if process is None or (process.commands and len(self._processes) < MOST_PROCESSES):
                process = self._another(process)
            process.commands += 1
            return process

    def _another(self, otherwise: Process | None) -> Process:
        """Return one process more; `otherwise` if the machine has no room for one."""
        try:
            process = Process()
        except OSError:
            if otherwise is None:
                raise
            return otherwise
        self._processes.append(process)
        return process

    def _note_end(self, process: Process) -> None:
        with self._lock:
            process.commands -= 1

    def _let_go(self, process: Process) -> None:
        """Send no more to a process that has died; another thread may have found that out as well."""
        with self._lock:
            if process not in self._processes:
                return
            self._processes.remove(process)
            process.requests.close()
        end(process.popen, END_S)


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
