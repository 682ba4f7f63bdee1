"""How a child is told what to run: by packets in a socket, of which each is taken once, by the child or by the daemon.

The daemon holds both ends. A packet that the child has not taken it can take back, so it may order ahead: what the
kernel gives it back has not begun, and what it does not give back has. The order of a job with a large payload fits in
no packet: its packet says only that it comes over the other socket.
"""

import marshal
import socket
from contextlib import suppress
from typing import NamedTuple

from ayb_jobs.model.job import LeasedJob

MOST_BYTES = 32 * 1024
COMES_APART = b"-"


class Run(NamedTuple):
    """An order: run this job, for so many seconds at most."""

    job: LeasedJob
    timeout_s: float | None


def pack(run: Run) -> bytes:
    """Return an order as bytes, in the form that Python reads fastest: both ends run the same one."""
    return marshal.dumps((tuple(run.job), run.timeout_s))


def unpack(packed: bytes) -> Run:
    """Return the order that `pack` made these bytes of."""
    job, timeout_s = marshal.loads(packed)  # noqa: S302 - a child reads what its daemon wrote
    return Run(LeasedJob._make(job), timeout_s)


class Orders:
    """The daemon's hold on the packets for one child. `theirs` is the end that the child takes them from."""

    def __init__(self) -> None:
        self._ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setblocking(False)
        self._left = 0

    def put(self, packet: bytes) -> bool:
        """Put a packet; tell whether there was room, and somebody who may take it."""
        try:
            self._ours.send(packet)
        except OSError:
            return False
        return True

    def take_back(self) -> int:
        """Take back what the child has not taken, and return how many packets that were: the last ones.

        Once closed, it returns how many were left then.
        """
        count, self._left = self._left, 0
        with suppress(OSError):  # there are no more, or it is closed
            while self.theirs.recv(MOST_BYTES, socket.MSG_DONTWAIT):
                count += 1
        return count

    def close(self) -> None:
        """Let go of both ends."""
        self._left = self.take_back()
        self._ours.close()
        self.theirs.close()
