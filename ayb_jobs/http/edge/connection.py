"""One HTTP connection, with bounds on what a slow or hostile client may hold: time and memory."""

import asyncio
from collections.abc import Callable
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from ayb_jobs.forks import keep_from_children
from ayb_jobs.http.edge.guard import MAX_HEADER
from ayb_jobs.http.edge.problems import problem_text

# A request, its body included, has so long to arrive; an answer that nobody takes is kept so long; and after a refusal
# the rest of what the client sends is read and thrown away for so long, since closing at once would destroy the answer
# on its way.
REQUEST_S = 20.0
ANSWER_S = 30.0
LINGER_S = 3.0
MAX_CONNECTIONS = 512
# Each chunk of a body costs the event loop as much as a small request, however short it is.
MAX_CHUNKS = 1024

Timer = asyncio.TimerHandle


class CountingConnection(h11.Connection):
    """h11's connection, which takes at most `MAX_CHUNKS` chunks in a body."""

    chunks = 0

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """Return the next event; raises `RemoteProtocolError` at a chunk too many."""
        event = super().next_event()
        if isinstance(event, h11.Request):
            self.chunks = 0
        elif isinstance(event, h11.Data) and event.chunk_start:
            self.chunks += 1
            if self.chunks > MAX_CHUNKS:
                raise h11.RemoteProtocolError("too many chunks")
        return event


class BoundedConnection(H11Protocol):
    """uvicorn's HTTP/1.1 connection plus three timers, bounds on numbers, and refusals in the API's own shape."""

    conn: CountingConnection
    _request_timer: Timer | None = None
    _answer_timer: Timer | None = None
    _refused = False
    silent_since = 0.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn = CountingConnection(h11.SERVER, MAX_HEADER)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Start the clock for the first request."""
        super().connection_made(transport)
        keep_from_children(self)
        self._request_timer = self._after(REQUEST_S, transport.abort)
        self.silent_since = self.loop.time()
        if len(self.connections) > MAX_CONNECTIONS:
            self._make_room()

    def fileno(self) -> int:
        """Return the number of the connection's descriptor."""
        number: int = self.transport.get_extra_info("socket").fileno()
        return number

    def _make_room(self) -> None:
        """Cut off whoever has had the longest to ask, so that no such client keeps a probe out.

        Else refuse this one.
        """
        others = [one for one in self.connections if isinstance(one, BoundedConnection) and one is not self]
        waiting = [one for one in others if one.waits_for_client]
        if not waiting:
            self._refuse(503, f"{MAX_CONNECTIONS} connections are busy already; close some")
            return
        longest = min(waiting, key=lambda one: one.silent_since)
        longest.transport.abort()
        self.connections.discard(longest)

    @property
    def waits_for_client(self) -> bool:
        """Whether a request has yet to arrive, or the rest of it."""
        return self._refused or self.conn.their_state in {h11.IDLE, h11.SEND_BODY}

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks."""
        self._request_timer = stopped(self._request_timer)
        self._answer_timer = stopped(self._answer_timer)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came, and stop the clock once a request is complete."""
        if self._refused:
            return
        super().data_received(data)
        if self.conn.their_state in {h11.DONE, h11.MUST_CLOSE, h11.CLOSED}:
            self.silent_since = self.loop.time()
            self._request_timer = stopped(self._request_timer)
        elif self._request_timer is None:
            self._request_timer = self._after(REQUEST_S, self.transport.abort)

    def pause_writing(self) -> None:
        """Start the clock for a client that does not take its answer."""
        super().pause_writing()
        self._answer_timer = self._after(ANSWER_S, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop it again."""
        self._answer_timer = stopped(self._answer_timer)
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, or whose header is too large; a token too long to be read is no valid token."""
        received, _ = self.conn.trailing_data
        status, message = 400, msg
        if self.conn.chunks > MAX_CHUNKS:
            status, message = 413, f"the body comes in more than {MAX_CHUNKS} chunks; send larger ones"
        elif len(received) > MAX_HEADER:
            status, message = 431, f"the header is larger than {MAX_HEADER} bytes"
            if b"\nauthorization:" in received.lower():
                status, message = 401, f"{message}, so that it shows no valid token"
        self._refuse(status, message)

    def _refuse(self, status: int, message: str) -> None:
        """Give an answer of our own, unless the request was answered already, and take nothing more."""
        self._refused = True
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            self._send_problem(status, message)
        if self.cycle is not None:  # it may wait for the rest of the body
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._request_timer = stopped(self._request_timer)
        self._request_timer = self._after(LINGER_S, self.transport.abort)

    def _send_problem(self, status: int, message: str) -> None:
        body = problem_text(status, message)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        for event in (h11.Response(status_code=status, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")

    def _after(self, delay_s: float, action: Callable[[], None]) -> Timer:
        return self.loop.call_later(delay_s, action)


def stopped(timer: Timer | None) -> Timer | None:
    """Stop a timer, and return what takes its place: none."""
    if timer is not None:
        timer.cancel()
    return None
