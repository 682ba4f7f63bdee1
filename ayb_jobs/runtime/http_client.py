"""Requests to addresses outside: one deadline over the whole exchange, no redirects, no proxy of the environment.

Importing this needs the extra `http`.
"""

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any

import aiohttp

from ayb_jobs.handlers.requests.answers import SUCCESS
from ayb_jobs.handlers.requests.client import open_session
from ayb_jobs.handlers.requests.signing import signed

__all__ = ["Answered", "post_to_end", "signed"]


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
        open_session(allow_private=True) as session,
        session.post(
            url, data=body, headers=headers, allow_redirects=False, timeout=aiohttp.ClientTimeout(total=timeout_s)
        ) as response,
    ):
        if response.status not in SUCCESS:
            raise Answered(f"it answered {response.status} {response.reason or '':.100}".rstrip())


def _run(work: Coroutine[Any, Any, None]) -> None:
    # Not asyncio.run: that waits for whatever the work has left to threads, however long they take.
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(work)
    finally:
        loop.close()
