"""Waiting for the notification of a job's result, by each driver that hears one; by the others for time to pass.

Behind a pooler nobody listens: its sessions are everybody's. One makes up the process id that it tells its clients.
"""

import asyncio
import select
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

from ayb_jobs.storage.channel import RESULTS_CHANNEL

Wait = Callable[[float], None]
AsyncWait = Callable[[float], Awaitable[None]]


@contextmanager
def psycopg_hearing(conn: Any, job_id: str, backend_pid: int) -> Iterator[Wait]:
    """Yield what waits so many seconds, or until the result of a job is kept; for a psycopg connection."""
    if conn.info.backend_pid != backend_pid:
        yield time.sleep
        return
    raw, heard = conn.pgconn, Heard(job_id)
    waiting = select.poll()
    waiting.register(raw.socket, select.POLLIN)

    def wait(seconds: float) -> None:
        until = time.monotonic() + seconds
        while not heard.take() and (left_s := until - time.monotonic()) > 0:
            waiting.poll(left_s * 1000)
            heard.read(raw)

    conn.add_notify_handler(heard)
    _run(conn, f"LISTEN {RESULTS_CHANNEL}")
    try:
        yield wait
    finally:
        conn.remove_notify_handler(heard)
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
    raw, heard = conn.pgconn, Heard(job_id)

    async def wait(seconds: float) -> None:
        until = time.monotonic() + seconds
        while not heard.take() and (left_s := until - time.monotonic()) > 0:
            await _readable(raw.socket, left_s)
            heard.read(raw)

    conn.add_notify_handler(heard)
    await _run_async(conn, f"LISTEN {RESULTS_CHANNEL}")
    try:
        yield wait
    finally:
        conn.remove_notify_handler(heard)
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


class Heard:
    """Whether a notification about a job has come: with a statement's answer, or read from the connection."""

    def __init__(self, job_id: str) -> None:
        self._job_id = job_id
        self._came = False

    def __call__(self, notification: Any) -> None:
        """Take note of what came with an answer."""
        self._came |= notification.payload == self._job_id

    def read(self, raw: Any) -> None:
        """Take note of what has come since. Raises psycopg's error if the connection broke."""
        raw.consume_input()
        while found := raw.notifies():
            self._came |= found.extra.decode(errors="replace") == self._job_id

    def take(self) -> bool:
        """Tell whether it has come since the last call."""
        came, self._came = self._came, False
        return came


@contextmanager
def deaf() -> Iterator[Wait]:
    """Yield what waits so many seconds, for drivers that hear nothing."""
    yield time.sleep


@asynccontextmanager
async def deaf_async() -> AsyncIterator[AsyncWait]:
    """Yield what waits so many seconds, for drivers that hear nothing."""
    yield asyncio.sleep
