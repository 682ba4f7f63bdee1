"""The daemon's end of the fork server, which begins with the first child, and again if it has died."""

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

from ayb_jobs.children import end
from ayb_jobs.errors import ChildDied
from ayb_jobs.forks import keep_from_children

PROGRAM = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from ayb_jobs.runtime.executors.fork_server import main
main(int(sys.argv[2]), sys.argv[3:])
"""
# How long the server may take to import the modules with handlers.
START_S = 60.0
LOOK_S = 0.1
END_S = 5.0


class ForkServer:
    """Has child processes forked, which have these modules imported. Threads may share it: one child at a time."""

    def __init__(self, modules: Sequence[str]) -> None:
        self._modules = modules
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._requests: socket.socket | None = None

    def fork(self, descriptors: Sequence[int], closed: threading.Event) -> int:
        """Return the process id of a new child, which is given these descriptors.

        Raises `ChildDied` if none starts, or once nobody wants it any more: `closed`.
        """
        with self._lock:
            pid = self._ask(descriptors, closed)
            if pid is None:  # the server has died since
                self._end()
                pid = self._ask(descriptors, closed)
        if pid is None:
            raise ChildDied("the process that forks children dies as it starts or imports the handlers")
        if not pid:
            raise ChildDied("no child process could be started: there are too many processes or open files")
        return pid

    def close(self) -> None:
        """End the server. May come twice, or before any child."""
        with self._lock:
            self._end()

    def _ask(self, descriptors: Sequence[int], closed: threading.Event) -> int | None:
        """Return the process id of a new child, 0 if the server could fork none, and None if there is no server."""
        if self._requests is None:
            self._process, self._requests = begin(self._modules)
        try:
            socket.send_fds(self._requests, [b"fork"], list(descriptors))
            answer = self._answer(self._requests, closed)
            return int(answer) if answer else None
        except OSError:
            return None

    def _answer(self, requests: socket.socket, closed: threading.Event) -> bytes:
        """Wait for the server's answer. One that is too late would be taken for another's, so the server is killed."""
        until = time.monotonic() + START_S
        while time.monotonic() < until and not closed.is_set():
            with suppress(TimeoutError):
                return requests.recv(32)
        if self._process is not None:
            self._process.kill()
        self._end()
        raise ChildDied(f"the handlers were not imported within {START_S:g} s")

    def _end(self) -> None:
        process, self._process = self._process, None
        requests, self._requests = self._requests, None
        if requests is not None:
            requests.close()
        if process is not None:
            end(process, END_S)


def begin(modules: Sequence[str]) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start the server. It is in a session of its own, so that no terminal stops it before the daemon."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    keep_from_children(ours)
    ours.settimeout(LOOK_S)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, json.dumps(sys.path), str(theirs.fileno()), *modules],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    return process, ours
