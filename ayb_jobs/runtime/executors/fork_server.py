"""The fork server: a daemon's process that has imported what children need, and becomes a child by a fork.

So a child starts in some milliseconds, however long the modules with the handlers take to import. What is forked from
it is as good as new, since it has no thread and opens nothing. If a module begins a thread, opens a socket or cannot be
imported, a fork would not be: then each child becomes a new program, which imports everything itself.

Each request comes with five descriptors: of the sockets on which a child talks with the daemon, takes orders, and is
asked to stop, of its lifeline, and of one more socket. On that the server tells how the child ended. The daemon closes
its end when it lets go of the child: then the server kills what is left of the child's group. Until then the child's
number is nobody else's, so the daemon may kill by it.
"""

import array
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ayb_jobs.runtime.executors import child

# Talk, orders, stops, lifeline; and the socket on which the end is told.
FOR_CHILD = 4
DESCRIPTORS = FOR_CHILD + 1
# What a terminal or a supervisor sends to all processes; the daemon says when this one ends.
OUTLIVED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
CHILD = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from ayb_jobs.runtime.executors.child import main
main(*map(int, sys.argv[2:]))
"""


class Server:
    """Forks children as requests come, until the daemon's end of the socket is closed.

    If a fork is not `as_good_as_new`, each child begins a new program.
    """

    def __init__(self, requests: socket.socket, wake: int, *, as_good_as_new: bool) -> None:
        self._requests = requests
        self._wake = wake
        self._as_good_as_new = as_good_as_new
        self._children: dict[int, int] = {}  # their numbers, by the descriptor of their socket
        self._sockets: dict[int, socket.socket] = {}
        self._running: set[int] = set()
        self._killed: set[int] = set()  # one that waits for a disk ends later, and keeps no other waiting
        self._poll = select.poll()
        self._poll.register(requests, select.POLLIN)
        self._poll.register(wake, select.POLLIN)

    def run(self) -> None:
        """Serve until the daemon is gone. Its children end by their lifelines."""
        while True:
            for descriptor, _ in self._poll.poll():
                if descriptor == self._requests.fileno():
                    if not self._take_request():
                        return
                elif descriptor == self._wake:
                    with suppress(BlockingIOError):
                        os.read(self._wake, 4096)
                else:
                    self._let_go(descriptor)
            self._tell_of_ends()
            self._wait_for_killed()

    def _take_request(self) -> bool:
        """Fork a child and answer with its number; False if there are no more requests."""
        text, descriptors = received(self._requests)
        if not text:
            return False
        try:
            pid = os.fork() if len(descriptors) == DESCRIPTORS else None  # else there was no room for them
        except OSError:
            pid = None
        if pid is None:
            close_all(descriptors)
            self._requests.send(b"0")
            return True
        if not pid:
            os.close(descriptors[FOR_CHILD])
            self._become_child(descriptors[:FOR_CHILD])
        close_all(descriptors[:FOR_CHILD])
        self._watch(pid, socket.socket(fileno=descriptors[FOR_CHILD]))
        self._requests.send(str(pid).encode())
        return True

    def _watch(self, pid: int, told: socket.socket) -> None:
        self._children[told.fileno()] = pid
        self._sockets[told.fileno()] = told
        self._running.add(told.fileno())
        self._poll.register(told, select.POLLIN)

    def _become_child(self, descriptors: Sequence[int]) -> None:
        """Turn this process into a child."""
        try:
            os.setsid()
            os.close(signal.set_wakeup_fd(-1))
            for number in OUTLIVED:
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
            if not self._as_good_as_new:
                for descriptor in descriptors:
                    os.set_inheritable(descriptor, True)
                arguments = [json.dumps(sys.path), *map(str, descriptors)]
                os.execv(sys.executable, [sys.executable, "-c", CHILD, *arguments])
            for mine in (self._requests, *self._sockets.values()):
                mine.close()
            os.close(self._wake)
            child.main(*descriptors)
        finally:
            os._exit(1)

    def _tell_of_ends(self) -> None:
        """Tell of children that have ended. They are not yet waited for, so that their numbers stay theirs."""
        for descriptor in list(self._running):
            found = os.waitid(os.P_PID, self._children[descriptor], os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if found is not None:
                self._running.discard(descriptor)
                code = found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
                with suppress(OSError):
                    self._sockets[descriptor].send(str(code).encode())

    def _let_go(self, descriptor: int) -> None:
        """Kill a child and all of its group, which the daemon has let go of."""
        self._poll.unregister(descriptor)
        self._running.discard(descriptor)
        self._killed.add(descriptor)
        for kill in (os.killpg, os.kill):
            with suppress(ProcessLookupError, PermissionError):
                kill(self._children[descriptor], signal.SIGKILL)

    def _wait_for_killed(self) -> None:
        """Wait for those that have ended, and tell the daemon that they are gone."""
        for descriptor in list(self._killed):
            if os.waitpid(self._children[descriptor], os.WNOHANG)[0]:
                self._killed.discard(descriptor)
                del self._children[descriptor]
                self._sockets.pop(descriptor).close()


def received(requests: socket.socket) -> tuple[bytes, Sequence[int]]:
    """Return a request and its descriptors, which no other child inherits."""
    room = socket.CMSG_SPACE(DESCRIPTORS * array.array("i").itemsize)
    text, ancillary, _, _ = requests.recvmsg(16, room, getattr(socket, "MSG_CMSG_CLOEXEC", 0))
    descriptors = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(content[: len(content) - len(content) % descriptors.itemsize])
    return text, descriptors


def close_all(descriptors: Sequence[int]) -> None:
    """Close these."""
    for descriptor in descriptors:
        os.close(descriptor)


def heard_signals() -> int:
    """Outlive signals that are sent to all; return the descriptor that signals write to."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    for number in OUTLIVED:
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    return reading


def preload(modules: Sequence[str]) -> bool:
    """Import modules with handlers; tell whether what is forked from this process is as good as new.

    It is not if there is a thread, also of a library or of the machine's start-up code, since that may hold any lock.
    It is not if a module opened a socket, which children would share, nor if one cannot be imported: a child that
    imports it anew tells why.
    """
    opened = sockets()
    try:
        for module in modules:
            importlib.import_module(module)
    except BaseException:  # whatever a module raises, a child meets it again
        return False
    return threads() == 1 and sockets() <= opened


def threads() -> int:
    """Return how many threads this process has; where only Python knows, how many of its own."""
    try:
        return len(list(Path("/proc/self/task").iterdir()))
    except OSError:
        return threading.active_count()


def sockets() -> set[str]:
    """Return the sockets that this process has open, as far as that can be known."""
    found = set()
    with suppress(OSError):
        for descriptor in Path("/proc/self/fd").iterdir():
            with suppress(OSError):  # that of the folder itself is closed by now
                found.add(str(descriptor.readlink()))
    return {name for name in found if name.startswith("socket:")}


def main(number: int, modules: Sequence[str]) -> None:
    """Serve on the socket of this number, with these modules imported."""
    as_good_as_new = preload(modules)
    gc.collect()
    gc.freeze()  # what is here already stays shared with the children
    Server(socket.socket(fileno=number), heard_signals(), as_good_as_new=as_good_as_new).run()
