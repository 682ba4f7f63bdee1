"""Requests to addresses outside: one deadline over the whole exchange, no redirects, no proxy of the environment.

Importing this needs the extra `http`.
"""

import asyncio
import socket
import threading
from collections.abc import Coroutine, Mapping
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

USER_AGENT = "ayb-jobs"
SUCCESS = range(200, 300)


class Answered(aiohttp.ClientError):
    """The address answered, but not with a 2xx status."""


def post_to_end(url: str, body: bytes, *, headers: Mapping[str, str], timeout_s: float) -> None:
    """Post to an address; return when it has answered with a 2xx status.

    `timeout_s` counts from the call to the answer's headers: name resolution, TLS and interim answers included. The
    answer's body is not read. Raises `Answered`, `TimeoutError`, `aiohttp.ClientError` or `OSError`.
    """
    _run(_post(url, body, headers, timeout_s))


async def _post(url: str, body: bytes, headers: Mapping[str, str], timeout_s: float) -> None:
    async with (
        asyncio.timeout(timeout_s),
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(resolver=Resolver(), force_close=True),
            headers={"User-Agent": USER_AGENT, **headers},
            timeout=aiohttp.ClientTimeout(total=timeout_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        ) as session,
        session.post(url, data=body, allow_redirects=False) as response,
    ):
        if response.status not in SUCCESS:
            raise Answered(f"it answered {response.status} {response.reason}")


def _run(work: Coroutine[Any, Any, None]) -> None:
    # Not asyncio.run: that waits for whatever the work has left to threads, however long they take.
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(work)
    finally:
        loop.close()


class Resolver(AbstractResolver):
    """Finds a name's addresses as the host does, in a thread that no deadline waits for and no exit joins.

    The system's resolver cannot be interrupted. A thread of a pool would keep the process from ending until its
    name server has answered.
    """

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return every address of a name; raises `OSError` if it has none."""
        loop = asyncio.get_running_loop()
        found: asyncio.Future[list[ResolveResult]] = loop.create_future()

        def look_up() -> None:
            try:
                rows = socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
                results = [_result(host, row) for row in rows]
            except OSError as error:
                _tell(loop, found, error)
            else:
                _tell(loop, found, results)

        threading.Thread(target=look_up, name=f"resolve {host}", daemon=True).start()
        return await found

    async def close(self) -> None:
        """Do nothing: nothing is kept."""


def _result(host: str, row: tuple[Any, ...]) -> ResolveResult:
    family, _, proto, _, (address, port, *_) = row
    return ResolveResult(
        hostname=host,
        host=address,
        port=port,
        family=family,
        proto=proto,
        flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
    )


def _tell(
    loop: asyncio.AbstractEventLoop,
    found: asyncio.Future[list[ResolveResult]],
    what: list[ResolveResult] | OSError,
) -> None:
    def tell() -> None:
        if found.done():
            return
        if isinstance(what, OSError):
            found.set_exception(what)
        else:
            found.set_result(what)

    try:
        loop.call_soon_threadsafe(tell)
    except RuntimeError:
        return  # the loop is closed: the deadline has passed, and nobody waits
