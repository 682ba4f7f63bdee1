"""Ending a statement that runs for a handler, once the handler must end."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg

from ayb_jobs.errors import DatabaseError
from ayb_jobs.handlers.context import JobContext, StopReason
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection, shares_sessions
from ayb_jobs.storage.work_transaction import backend_of, cancel_statement

# A statement that began just after it was canceled is canceled again.
AGAIN_S = 0.5
ENDING = frozenset[StopReason]({"canceled", "lease_lost"})


class Ending:
    """Cancels the statements of one server process, again and again, from `begin` to `end`.

    A thread of its own does, since who tells handlers to stop must not wait for the database. It outlives the
    database's errors: whoever reads the log learns of these from the daemon's loops.
    """

    def __init__(self, database: Database, backend: int) -> None:
        self._database = database
        self._backend = backend
        self._over = threading.Event()
        self._lock = threading.Lock()

    def begin(self, reason: StopReason) -> None:
        """Begin if the reason is one to end statements for: a timeout ends them by itself, and a shutdown waits."""
        if reason in ENDING:
            threading.Thread(target=self._work, name="end statement", daemon=True).start()

    def end(self) -> None:
        """Cancel no more: the next statements of that process are somebody else's."""
        with self._lock:
            self._over.set()

    def _work(self) -> None:
        while not self._over.is_set():
            with self._lock:
                if not self._over.is_set():
                    with suppress(DatabaseError, psycopg.Error), self._database.connection() as conn:
                        cancel_statement(conn, self._backend)
            self._over.wait(AGAIN_S)


@contextmanager
def ended_with(ctx: JobContext, conn: Connection) -> Iterator[None]:
    """Have the database end the statements that run in the block, if the job is canceled or its lease is lost."""
    ending = Ending(ctx.services.database, backend_of(conn))
    ctx.when_stopped(ending.begin)
    try:
        yield
    finally:
        ending.end()


@contextmanager
def ended_alone(ctx: JobContext, conn: Connection) -> Iterator[None]:
    """Do what `ended_with` does outside a transaction; through a pooler nothing: each statement may run elsewhere."""
    if shares_sessions(conn):
        yield
        return
    with ended_with(ctx, conn):
        yield
