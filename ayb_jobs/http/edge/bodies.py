"""Reads the body of a request, with bounds on its size and on what all bodies together hold."""

from collections.abc import Iterator
from contextlib import contextmanager

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope

from ayb_jobs.http.edge.problems import Refused

MIB = 1024 * 1024
MAX_BODY = MIB
# What the bodies of all requests under way may hold together. A decoded body takes up to thirty times as much.
MAX_BODIES = 16 * MIB


class Budget:
    """How many bytes the bodies of all requests hold. Used on the event loop alone, so that it needs no lock."""

    def __init__(self, most: int = MAX_BODIES) -> None:
        self._most = most
        self._held = 0

    @property
    def held(self) -> int:
        """The bytes held by requests that are not answered yet."""
        return self._held

    @contextmanager
    def share(self) -> Iterator["Share"]:
        """Lend a share of the budget; whatever was taken is given back at the end."""
        share = Share(self)
        try:
            yield share
        finally:
            self._held -= share.size

    def take(self, size: int) -> None:
        """Take bytes; raises `Refused` (503) if the bodies of all requests would hold too much."""
        if self._held + size > self._most:
            message = f"the bodies of other requests hold {self._held} bytes of {self._most}; try again in a second"
            raise Refused(503, message, {"Retry-After": "1"})
        self._held += size


class Share:
    """What one request holds of the budget."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.size = 0

    def add(self, size: int) -> None:
        """Hold more; raises `Refused` if one body (413) or all of them (503) would hold too much."""
        if self.size + size > MAX_BODY:
            raise too_large()
        self._budget.take(size)
        self.size += size


async def read_body(scope: Scope, receive: Receive, share: Share) -> bytes:
    """Return the whole body.

    Raises `Refused` (413) if the body is larger than 1 MiB, or says so; `ClientDisconnect` if its end never comes.
    """
    for name, value in scope["headers"]:
        if name == b"content-length" and int(value) > MAX_BODY:
            raise too_large()
    chunks: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        share.add(len(chunk))
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)


def too_large() -> Refused:
    """Return the refusal of a body that is larger than allowed."""
    return Refused(413, f"the body is larger than {MAX_BODY} bytes")


class Replay:
    """Gives the body that was read already, then whatever comes from the connection."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        """Return the next message, as ASGI's `receive`."""
        body, self._body = self._body, None
        if body is None:
            return await self._receive()
        return {"type": "http.request", "body": body, "more_body": False}
