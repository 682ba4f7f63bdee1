"""The async handlers that are measured."""

import asyncio

from ayb_jobs.handlers.async_context import AsyncJobContext
from ayb_jobs.handlers.registry import Registry

registry = Registry()


@registry.handler("empty_async")
async def empty_async(_context: AsyncJobContext) -> None:
    """Do nothing on the event loop."""


@registry.handler("second")
async def second(_context: AsyncJobContext) -> None:
    """Wait for a second."""
    await asyncio.sleep(1)
