"""A child process, as the daemon holds it."""

import json
import math
import os
import pickle
import select
import signal
import socket
import threading
import time
from contextlib import ExitStack, suppress
from multiprocessing.connection import Connection
from typing import Any

from ayb_jobs.errors import ChildDied
from ayb_jobs.model.words import signal_name
from ayb_jobs.runtime.executors.child import Run, Settings, Stop
from ayb_jobs.runtime.executors.forking import ForkServer

# How long a child may take to import the handlers.
START_S = 60.0
LOOK_S = 0.1
# How long the end of a child that was killed is waited for: one that waits for a disk cannot end.
END_S = 5.0


class Child:
    """A child process. It leads a session of its own, so that all it forks ends with it.

    Raises `ChildDied` if it cannot be started, or cannot import its handlers. `woken` is a descriptor that ends the
    wait for a message once it can be read.
    """

    def __init__(self, fork_server: ForkServer, settings: Settings, closed: threading.Event, *, woken: int) -> None:
        self.runs = 0
        self.memory_mib = 0
        self._stopping = threading.Lock()
        with ExitStack() as given, ExitStack() as if_refused:
            (talk, orders), (self._stops, stops), (self._told, told) = (socket.socketpair() for _ in range(3))
            end, self._lifeline = os.pipe()
            for theirs in (orders, stops, told):
                given.callback(theirs.close)
            given.callback(os.close, end)
            self._talk = Connection(talk.detach())
            for ours in (self._talk, self._stops, self._told):
                if_refused.callback(ours.close)
            if_refused.callback(os.close, self._lifeline)
            self.pid = fork_server.fork([orders.fileno(), stops.fileno(), end, told.fileno()], closed)
            if_refused.pop_all()
        self._poll = select.poll()
        for descriptor in (self._talk.fileno(), self._told.fileno(), woken):
            self._poll.register(descriptor, select.POLLIN)
        try:
            self.order(settings)
            self._await_ready(closed)
        except BaseException:
            self.kill()
            raise

    def order(self, order: Settings | Run) -> None:
        """Send an order; a child that is gone is noticed by who waits for its answer."""
        with suppress(OSError):
            self._talk.send_bytes(pickle.dumps(order))

    def stop(self, order: Stop) -> None:
        """Ask a handler to stop, from any thread."""
        with self._stopping, suppress(OSError):
            self._stops.sendall(f"{order.lease_id} {order.reason}\n".encode())

    def receive(self, timeout_s: float | None) -> dict[str, Any] | None:
        """Return the next message; None if the time is over, or somebody woke us.

        Raises `ChildDied` if there will be none.
        """
        ready = [found for found, _ in self._poll.poll(None if timeout_s is None else math.ceil(timeout_s * 1000))]
        if self._talk.fileno() in ready:
            try:
                message = json.loads(self._talk.recv_bytes())
            except (EOFError, OSError, ValueError):
                raise ChildDied(self.death()) from None
            if isinstance(message, dict):
                return message
            raise ChildDied("the child process sent what is no message")
        if self._told.fileno() in ready:
            raise ChildDied(self.death())
        return None

    def _await_ready(self, closed: threading.Event) -> None:
        until = time.monotonic() + START_S
        while time.monotonic() < until and not closed.is_set():
            message = self.receive(LOOK_S) or {}
            if message.get("ready"):
                return
            if "failed" in message:
                raise ChildDied(f"a child process cannot load its handlers: {message['failed']}")
        raise ChildDied(f"a child process did not load its handlers within {START_S:g} s")

    def death(self) -> str:
        """Kill what is left of the process, and say how it ended."""
        code = self._end()
        self.kill()
        if code is None:
            return "the child process was killed, since the process that forked it died"
        if code < 0:
            meaning = signal.strsignal(-code)
            return f"the child process was killed by {signal_name(-code)}" + (f" ({meaning})" if meaning else "")
        return f"the child process ended with exit code {code} while its handler ran"

    def _end(self) -> int | None:
        """Return its exit code, negative for a signal; None if nobody can tell. It waits a moment for the end."""
        self._told.settimeout(END_S)
        try:
            return int(self._told.recv(16))
        except (OSError, ValueError):
            return None

    def kill(self) -> None:
        """Kill the process and all that it has forked, and let go of it. May come twice."""
        if self._talk.closed:
            return
        # The fork server has not yet waited for it, so that its number is nobody else's.
        for kill in (os.killpg, os.kill):  # before it leads a group, it is killed by itself
            with suppress(ProcessLookupError, PermissionError):
                kill(self.pid, signal.SIGKILL)
        self._talk.close()
        os.close(self._lifeline)
        with suppress(OSError):
            self._told.shutdown(socket.SHUT_WR)
            self._told.settimeout(END_S)
            while self._told.recv(16):  # until the server has waited for it
                pass
        self._told.close()
        with self._stopping:
            self._stops.close()
