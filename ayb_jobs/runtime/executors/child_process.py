"""A child process, as the daemon holds it."""

import json
import math
import os
import select
import signal
import socket
import threading
import time
from collections import deque
from contextlib import ExitStack, suppress
from typing import Any

from ayb_jobs.errors import ChildDied
from ayb_jobs.forks import keep_from_children
from ayb_jobs.model.words import signal_name
from ayb_jobs.runtime.executors.child import LENGTH_BYTES, Settings, Stop, pack_settings
from ayb_jobs.runtime.executors.forking import ForkServer
from ayb_jobs.runtime.executors.orders import COMES_APART, MOST_BYTES, Orders, Run, pack

# How long a child may take to import the handlers.
START_S = 60.0
LOOK_S = 0.1
# What `poll` can be given at once: its milliseconds are an int of C.
LONGEST_POLL_S = 3600.0
# How long the end of a child that was killed is waited for: one that waits for a disk cannot end.
END_S = 5.0
READ_BYTES = 64 * 1024
decoded = json.JSONDecoder().decode


class Child:
    """A child process. It leads a session of its own, so that all it forks ends with it.

    Raises `ChildDied` if it cannot be started, or cannot import its handlers. `woken` is a descriptor that ends the
    wait for a message once it can be read.
    """

    def __init__(self, fork_server: ForkServer, settings: Settings, closed: threading.Event, *, woken: int) -> None:
        self.runs = 0
        self.memory_mib = 0
        self._stopping = threading.Lock()
        self._lines: deque[bytes] = deque()
        self._begun_line = b""
        with ExitStack() as given, ExitStack() as if_refused:
            (self._talk, talk), (self._stops, stops), (self._told, told) = (socket.socketpair() for _ in range(3))
            end, lifeline = os.pipe()
            self._orders, self._lifeline = Orders(), open(lifeline, "wb", buffering=0)  # noqa: PTH123, SIM115 - of no file
            for theirs in (talk, stops, told):
                given.callback(theirs.close)
            given.callback(os.close, end)
            for ours in (self._talk, self._stops, self._told, self._orders, self._lifeline):
                if_refused.callback(ours.close)
            for kept in (self._talk, self._stops, self._lifeline):  # a handler's fork may outlive the daemon
                keep_from_children(kept)
            descriptors = [one.fileno() for one in (talk, self._orders.theirs, stops)]
            self.pid = fork_server.fork([*descriptors, end, told.fileno()], closed)
            if_refused.pop_all()
        self._poll = select.poll()
        for descriptor in (self._talk.fileno(), self._told.fileno(), woken):
            self._poll.register(descriptor, select.POLLIN)
        try:
            self._send_apart(pack_settings(settings))
            self._await_ready(closed)
        except BaseException:
            self.kill()
            raise

    def order(self, run: Run) -> None:
        """Order what is to run at once; a child that is gone is noticed by who waits for its answer."""
        packed = pack(run)
        if len(packed) <= MOST_BYTES:
            self._orders.put(packed)
        elif self._orders.put(COMES_APART):
            self._send_apart(packed)

    def order_again(self, run: Run) -> None:
        """Order what was taken back. What comes apart from its packet is there already."""
        packed = pack(run)
        self._orders.put(packed if len(packed) <= MOST_BYTES else COMES_APART)

    def order_ahead(self, run: Run) -> bool:
        """Order what is to run after that; False if it fits in no packet, or there are too many."""
        packed = pack(run)
        return len(packed) <= MOST_BYTES and self._orders.put(packed)

    def take_back(self) -> int:
        """Take back the orders that the child has not begun, and return how many of the last ones that were."""
        return self._orders.take_back()

    def _send_apart(self, what: bytes) -> None:
        with suppress(OSError):
            self._talk.sendall(len(what).to_bytes(LENGTH_BYTES) + what)

    def stop(self, order: Stop) -> None:
        """Ask a handler to stop, from any thread."""
        with self._stopping, suppress(OSError):
            self._stops.sendall(f"{order.lease_id} {order.reason}\n".encode())

    def receive(self, timeout_s: float | None) -> dict[str, Any] | None:
        """Return the next message; None if the time is over, or an hour, or somebody woke us.

        Raises `ChildDied` if there will be none.
        """
        while not self._lines:
            timeout_ms = None if timeout_s is None else math.ceil(min(timeout_s, LONGEST_POLL_S) * 1000)
            ready = [found for found, _ in self._poll.poll(timeout_ms)]
            if self._talk.fileno() in ready or self._told.fileno() in ready:
                self._read()
            else:
                return None
        try:
            message = decoded(self._lines.popleft().decode())
        except ValueError:  # neither JSON nor UTF-8, perhaps
            raise ChildDied(self.death()) from None
        if isinstance(message, dict):
            return message
        raise ChildDied("the child process sent what is no message")

    def _read(self) -> None:
        """Read what there is, all that the child sent before it ended; then raise `ChildDied`."""
        try:
            received = self._talk.recv(READ_BYTES, socket.MSG_DONTWAIT)
        except OSError:
            received = b""
        if not received:
            raise ChildDied(self.death())
        *lines, self._begun_line = (self._begun_line + received).split(b"\n")
        self._lines.extend(lines)

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

    def kill(self, wait_s: float = END_S) -> None:
        """Kill the process and all that it has forked, and let go of it once it is gone. May come twice."""
        if self._lifeline.closed:
            return
        # The fork server has not yet waited for it, so that its number is nobody else's.
        for kill in (os.killpg, os.kill):  # before it leads a group, it is killed by itself
            with suppress(ProcessLookupError, PermissionError):
                kill(self.pid, signal.SIGKILL)
        for ours in (self._talk, self._orders, self._lifeline):
            ours.close()
        with suppress(OSError):
            self._told.shutdown(socket.SHUT_WR)
            self._told.settimeout(wait_s)
            while self._told.recv(16):  # until the server has waited for it
                pass
        self._told.close()
        with self._stopping:
            self._stops.close()
