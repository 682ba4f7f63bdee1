"""Finds the addresses of names, in bounded time, and refuses those that lie within one's own network.

A connection is made to an address that was looked at here: nobody asks for the name again in between.
"""

import asyncio
import socket
import threading
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

from ayb_jobs.handlers.requests.addresses import is_private, literal


class PrivateAddress(OSError):
    """A name or a URL leads into one's own network."""

    def __init__(self, host: str, address: str) -> None:
        where = host if host == address else f"{host} ({address})"
        super().__init__(f"{where} lies in a private network")


def refuse_private(host: str, address: str) -> None:
    """Raise `PrivateAddress` if an address is no public one."""
    found = literal(address)
    if found is None or is_private(found):
        raise PrivateAddress(host, address)


class Resolver(AbstractResolver):
    """Finds a name's addresses as the host does, in a thread that no deadline waits for and no exit joins.

    The system's resolver cannot be interrupted. A thread of a pool would keep the process from ending until its
    name server has answered. Unless `allow_private`, a name is refused that has any private address.
    """

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private

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
            except (OSError, UnicodeError) as error:
                _tell(loop, found, error if isinstance(error, OSError) else OSError(f"{host} is no name of a host"))
            else:
                _tell(loop, found, results)

        threading.Thread(target=look_up, name=f"resolve {host}", daemon=True).start()
        results = await found
        if not self._allow_private:
            for result in results:
                refuse_private(host, result["host"])
        return results

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
