"""Waiting for the notification of a job's result, by each driver that hears one; by the others for time to pass.

Behind a pooler nobody listens: its sessions are everybody's. One makes up the process id that it tells its clients.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

from ayb_jobs.storage.channel import RESULTS_CHANNEL
from ayb_jobs.storage.hearing import Heard, Notification

Wait = Callable[[float], None]
AsyncWait = Callable[[float], Awaitable[None]]


@contextmanager
def psycopg_hearing(conn: Any, job_id: str, backend_pid: int) -> Iterator[Wait]:
    """Yield what waits so many seconds, or until the result of a job is kept; for a psycopg connection."""
    if conn.info.backend_pid != backend_pid:
        yield time.sleep
        return
    heard = Heard(conn)

    def wait(seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left_s := until - time.monotonic()) > 0 and not tells_of(job_id, heard.wait(left_s)):
            pass  # it was of another job

    _run(conn, f"LISTEN {RESULTS_CHANNEL}")
    try:
        yield wait
    finally:
        heard.stop()
        if not conn.broken:
            _run(conn, f"UNLISTEN {RESULTS_CHANNEL}")


def _run(conn: Any, statement: str) -> None:
    conn.execute(statement)
    if not conn.autocommit:
        conn.commit()


@asynccontextmanager
async def psycopg_async_hearing(conn: Any, job_id: str, backend_pid: int) -> AsyncIterator[AsyncWait]:
    """Do what `psycopg_hearing` does, for an asynchronous connection."""
    if conn.info.backend_pid != backend_pid:
        yield asyncio.sleep
        return
    heard = Heard(conn)

    async def wait(seconds: float) -> None:
        until = time.monotonic() + seconds
        while not tells_of(job_id, heard.take()) and (left_s := until - time.monotonic()) > 0:
            await _readable(conn.pgconn.socket, left_s)

    await _run_async(conn, f"LISTEN {RESULTS_CHANNEL}")
    try:
        yield wait
    finally:
        heard.stop()
        if not conn.broken:
            await _run_async(conn, f"UNLISTEN {RESULTS_CHANNEL}")


async def _run_async(conn: Any, statement: str) -> None:
    await conn.execute(statement)
    if not conn.autocommit:
        await conn.commit()


async def _readable(descriptor: int, seconds: float) -> None:
    loop, came = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, came.set)
    try:
        with suppress(TimeoutError):
            await asyncio.wait_for(came.wait(), seconds)
    finally:
        loop.remove_reader(descriptor)


@asynccontextmanager
async def asyncpg_hearing(conn: Any, job_id: str, backend_pid: int) -> AsyncIterator[AsyncWait]:
    """Do what `psycopg_hearing` does, for an asyncpg connection."""
    if conn.get_server_pid() != backend_pid:
        yield asyncio.sleep
        return
    came = asyncio.Event()

    def hear(_conn: Any, _pid: int, _channel: str, payload: str) -> None:
        if payload == job_id:
            came.set()

    async def wait(seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(came.wait(), seconds)
        came.clear()

    await conn.add_listener(RESULTS_CHANNEL, hear)
    try:
        yield wait
    finally:
        await conn.remove_listener(RESULTS_CHANNEL, hear)


def tells_of(job_id: str, notifications: Iterable[Notification]) -> bool:
    """Tell whether any of these notifications is about a job."""
    return any(each.payload == job_id for each in notifications)


@contextmanager
def deaf() -> Iterator[Wait]:
    """Yield what waits so many seconds, for drivers that hear nothing."""
    yield time.sleep


@asynccontextmanager
async def deaf_async() -> AsyncIterator[AsyncWait]:
    """Yield what waits so many seconds, for drivers that hear nothing."""
    yield asyncio.sleep
