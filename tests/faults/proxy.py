"""A proxy that understands PostgreSQL's framing, and breaks one chosen exchange between a client and the server.

An exchange is what a client sends up to a point at which it waits: a Sync, a simple query, or the end of a COPY. They
are counted over all connections, so that a test can break the first, the second, and so on, until none is left.
"""

import shutil
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict, make_conninfo

READY, COPY_IN = b"Z", b"G"
SYNC, QUERY, TERMINATE = b"S", b"Q", b"X"
PORT = "5432"


@dataclass(frozen=True)
class Break:
    """What to do to the exchange with this number, from 0.

    `before`: the connection is cut and the server never sees it. `after`: it is cut once the server has acted, before
    the reply. Anything else is a SQLSTATE: the server never sees the exchange, and the client gets this error in its
    place.
    """

    number: int
    how: str

    @property
    def sqlstate(self) -> str | None:
        """The error to answer with; None where the connection is cut."""
        return None if self.how in ("before", "after") else self.how


class Proxy:
    """A proxy on a Unix socket in front of the server at `url`; `self.url` leads through it."""

    def __init__(self, url: str, folder: Path) -> None:
        server = conninfo_to_dict(url)
        self._server = f"{server['host']}/.s.PGSQL.{server['port']}"
        self.url = make_conninfo(url, host=str(folder), port=PORT)
        self.exchanges = 0
        self.broke = False
        self.delay_s = 0.0  # what each exchange takes longer
        self._break: Break | None = None
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / f".s.PGSQL.{PORT}"))
        self._listener.listen(64)
        self._accepting = threading.Thread(target=self._accept, name="proxy", daemon=True)
        self._accepting.start()

    @classmethod
    @contextmanager
    def before(cls, url: str) -> "Iterator[Proxy]":
        """Run a proxy for the time of the `with` block."""
        folder = Path(tempfile.mkdtemp(prefix="proxy-"))
        proxy = cls(url, folder)
        try:
            yield proxy
        finally:
            proxy.close()
            shutil.rmtree(folder)

    def arm(self, plan: Break | None) -> None:
        """Count anew from 0, and break one exchange, or none."""
        with self._lock:
            self.exchanges = 0
            self.broke = False
            self._break = plan

    def close(self) -> None:
        """Cut everything."""
        _cut(self._listener)  # closing alone would leave the thread waiting for ever
        self._accepting.join()
        with self._lock:
            sockets = list(self._open)
        for one in sockets:
            _cut(one)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(self._server)
            except OSError:
                client.close()
                server.close()
                continue
            with self._lock:
                self._open |= {client, server}
            Link(self, client, server).start()

    def next_exchange(self) -> Break | None:
        """Count an exchange; return what to do to it, if it is the chosen one."""
        with self._lock:
            number = self.exchanges
            self.exchanges += 1
            if self._break is not None and self._break.number == number:
                self.broke = True
                return self._break
            return None

    def forget(self, *sockets: socket.socket) -> None:
        """Cut these for good."""
        for one in sockets:
            _cut(one)
        with self._lock:
            self._open -= set(sockets)


class Link:
    """One client's connection."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._cut_at_ready = False
        self._status = b"I"

    def start(self) -> None:
        """Pass messages on, in both directions."""
        for work in (self._from_client, self._from_server):
            threading.Thread(target=self._guarded, args=(work,), name="proxy", daemon=True).start()

    def _guarded(self, work: Callable[[], None]) -> None:
        with suppress(OSError, EOFError):
            work()
        self._proxy.forget(self._client, self._server)

    def _from_client(self) -> None:
        self._server.sendall(_start_up(self._client))
        held = b""
        while True:
            kind, frame = _frame(self._client)
            held += frame
            if kind in (SYNC, QUERY):
                if not self._exchange(held):
                    return
                held = b""
            elif kind not in b"PBDECH" or kind == TERMINATE:
                self._server.sendall(held)  # authentication, and the rows of a COPY
                held = b""

    def _exchange(self, sent: bytes) -> bool:
        plan = self._proxy.next_exchange()
        time.sleep(self._proxy.delay_s)
        if plan is None:
            self._server.sendall(sent)
            return True
        if plan.how == "before":
            return False
        if plan.sqlstate is not None:
            self._client.sendall(_error(plan.sqlstate, self._status))
            return not plan.sqlstate.startswith("57P")
        self._cut_at_ready = True
        self._server.sendall(sent)
        return True

    def _from_server(self) -> None:
        while True:
            kind, frame = _frame(self._server)
            if kind == READY:
                self._status = frame[5:6]
            if self._cut_at_ready:
                if kind in (READY, COPY_IN):
                    return
                continue
            self._client.sendall(frame)


def _start_up(client: socket.socket) -> bytes:
    head = _exactly(client, 4)
    return head + _exactly(client, struct.unpack("!I", head)[0] - 4)


def _frame(source: socket.socket) -> tuple[bytes, bytes]:
    head = _exactly(source, 5)
    return head[:1], head + _exactly(source, struct.unpack("!I", head[1:])[0] - 4)


def _exactly(source: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = source.recv(size - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def _error(sqlstate: str, status: bytes) -> bytes:
    """Return the server's words for an error, which ends the transaction that is open."""
    severity = b"FATAL" if sqlstate.startswith("57P") else b"ERROR"
    fields = b"S" + severity + b"\0V" + severity + b"\0C" + sqlstate.encode() + b"\0Msubstituted by the proxy\0\0"
    after = b"I" if status == b"I" else b"E"
    return b"E" + struct.pack("!I", len(fields) + 4) + fields + READY + struct.pack("!I", 5) + after


def _cut(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
