"""Connections that asynchronous handlers are lent: a pool of their own, opened when the first of them asks."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import psycopg
from psycopg.pq import TransactionStatus
from psycopg_pool import AsyncConnectionPool

from ayb_jobs.forks import keep_from_children
from ayb_jobs.storage.connections import RECONNECT_S, worded_pool_faults
from ayb_jobs.storage.database import SET_SESSION, Timeouts, clamp_instants, conninfo, milliseconds
from ayb_jobs.storage.work_transaction import AsyncConnection

IDLE = TransactionStatus.IDLE


class AsyncDatabase:
    """The connections of asynchronous handlers, for use on one event loop.

    Behind a pooler they are taken for those of one in transaction mode: nothing lasts on them.
    """

    def __init__(self, url: str, *, work_connections: int, timeouts: Timeouts, name: str = "ayb-jobs") -> None:
        self._url = url
        self._name = f"{name}-async"
        self._timeouts = timeouts
        self._most = max(1, work_connections)
        self._pool: AsyncConnectionPool[AsyncConnection] | None = None
        self._opening = asyncio.Lock()

    @asynccontextmanager
    async def work(self) -> AsyncIterator[AsyncConnection]:
        """Lend a connection of the pool. Raises `DatabaseError` if none can be had in time."""
        pool = await self._opened()
        with worded_pool_faults(pool):
            conn = await pool.getconn()
        try:
            yield conn
        finally:
            if not conn.closed and conn.info.transaction_status != IDLE:
                with suppress(psycopg.Error):
                    await conn.rollback()
            await pool.putconn(conn)

    async def close(self) -> None:
        """Close every connection."""
        if self._pool is not None:
            await self._pool.close(timeout=1.0)

    async def _opened(self) -> "AsyncConnectionPool[AsyncConnection]":
        async with self._opening:
            if self._pool is None:
                self._pool = AsyncConnectionPool(
                    conninfo(self._url, self._name, self._timeouts, writable=True),
                    min_size=0,
                    max_size=self._most,
                    open=False,
                    name=self._name,
                    timeout=self._timeouts.connect_s,
                    max_idle=60.0,
                    reconnect_timeout=RECONNECT_S,
                    check=AsyncConnectionPool.check_connection,
                    configure=self._configure,
                    kwargs={"autocommit": True, "prepare_threshold": None},
                )
                await self._pool.open()
            return self._pool

    async def _configure(self, conn: AsyncConnection) -> None:
        keep_from_children(conn)
        clamp_instants(conn)
        try:
            row = await (await conn.execute("SELECT pg_catalog.pg_backend_pid()")).fetchone()
            if row is None or row[0] != conn.info.backend_pid:
                return  # a pooler stands between, which hands each transaction to any server connection
            conn.prepare_threshold = 5
            await conn.execute(SET_SESSION, {"statement_ms": milliseconds(self._timeouts.statement_s)})
        except psycopg.Error:
            await conn.close()
            raise
