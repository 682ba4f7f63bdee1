"""Requests with no redirects, no cookies, and no proxy of the environment. Whoever waits for one bounds its time."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from yarl import URL

from ayb_jobs.handlers.requests.addresses import literal
from ayb_jobs.handlers.requests.resolving import PrivateAddress, Resolver, refuse_private
from ayb_jobs.redact import without_address

USER_AGENT = "ayb-jobs"
# So much of an answer is read. If there is more, the connection is closed.
MOST_READ = 1024 * 1024
CHUNK = 64 * 1024
# Shorter than servers keep an idle connection, so that none is used that is about to close.
KEEP_ALIVE_S = 4.0


# What an address can make an exchange raise.
FAULTS = (aiohttp.ClientError, OSError, ValueError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a server answered: its status, and of its body what was read. `headers` are found by any case of a key."""

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes
    is_whole: bool


class Client:
    """Keeps connections to servers, for use on one event loop. `close` ends them."""

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private
        self._session: aiohttp.ClientSession | None = None
        self._targets: dict[str, URL] = {}  # as many as there are job types

    async def post(self, url: str, body: bytes, *, headers: Mapping[str, str]) -> Answer:
        """Post to an address, and return the answer; name resolution and TLS included, canceling ends it at any time.

        Raises `PrivateAddress`, `aiohttp.ClientError`, `OSError` or `ValueError`.
        """
        opened = self._opened()
        async with opened.post(self._target(url), data=body, headers=headers, allow_redirects=False) as response:
            read, is_whole = await read_bounded(response)
            return Answer(
                status=response.status,
                reason=response.reason or "",
                headers=response.headers,
                body=read,
                is_whole=is_whole,
            )

    def _target(self, url: str) -> URL:
        """Return an address that may be posted to, as far as that shows without a look-up."""
        target = self._targets.get(url)
        if target is None:
            target = URL(url)
            host = (target.raw_host or "").rstrip(".")
            if not self._allow_private and literal(host) is not None:  # no resolver is asked for these
                refuse_private(host, host)
            self._targets[url] = target
        return target

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = open_session(allow_private=self._allow_private)
        return self._session

    async def close(self) -> None:
        """Close all connections. May come twice."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()


def open_session(*, allow_private: bool) -> aiohttp.ClientSession:
    """Return a session that keeps no cookies, and asks no proxy of the environment; to be closed."""
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=None),  # whoever posts sets one over the whole exchange
        connector=aiohttp.TCPConnector(
            resolver=Resolver(allow_private=allow_private), limit=0, keepalive_timeout=KEEP_ALIVE_S
        ),
        # No answer is asked for compressed, and none is decompressed: a few bytes could become gigabytes.
        headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
    )


async def read_bounded(response: aiohttp.ClientResponse) -> tuple[bytes, bool]:
    """Return the body of an answer, and whether it is whole; after a mebibyte the connection is closed."""
    read = bytearray()
    async for chunk in response.content.iter_chunked(CHUNK):
        read += chunk
        if len(read) > MOST_READ:
            response.close()
            return bytes(read[:MOST_READ]), False
    return bytes(read), True


# aiohttp has no words for these; the first that fits speaks.
WORDS: tuple[tuple[type[BaseException], str], ...] = (
    (aiohttp.InvalidURL, "no request can be sent to its URL"),
    (aiohttp.ServerDisconnectedError, "the server closed the connection without an answer"),
    (aiohttp.ClientPayloadError, "the connection ended within the answer"),
    (aiohttp.ClientResponseError, "the answer is not HTTP"),
    (aiohttp.ClientError, "the exchange failed"),
)


def fault(error: BaseException) -> str:
    """Say what went wrong with an exchange, without the address, which may be secret."""
    cause: Any = error
    for _ in range(4):
        if isinstance(cause, PrivateAddress):
            return f"{cause}; set allow_private = true for the job type if that is meant"
        cause = getattr(cause, "os_error", None) or cause.__cause__ or cause.__context__
        if cause is None:
            break
    told = without_address(error)
    return (
        next((words for kind, words in WORDS if isinstance(error, kind)), told)
        if told == type(error).__name__
        else told
    )
