"""A worker in another language, played: a process that knows nothing but the SQL functions for workers.

It has one place. It writes down its runs as a daemon's handlers do, and ends with its standard input.
"""

import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, LiteralString

import psycopg

from ayb_jobs.lab.torture.effects import write

DATABASE_URL = "TORTURE_DATABASE_URL"
WORKER = "TORTURE_WORKER"
LEASE_S = 3
AGAIN_S, IDLE_S = 0.05, 0.02
CONNECT_WITHIN_S = "3"
Row = tuple[Any, ...]
TYPES = ["torture_few", "torture_rated", "torture_keyed", "torture_key_rated", "torture_paused"]
QUEUES = ["default", "torture_paused"]
LEASE = """
    SELECT id::text, lease_id::text, attempt, coalesce((payload::jsonb ->> 's')::float8, 0)
    FROM ayb_jobs.ayb_jobs_lease(%s, %s::text[], %s::text[], 1, %s)
"""
SETTLE = "SELECT ayb_jobs.ayb_jobs_settle(%s::uuid, %s::uuid, 'completed')"
LOST = (psycopg.errors.ObjectNotInPrerequisiteState, psycopg.errors.NoDataFound)


class Session:
    """A connection that is made anew as often as it is lost."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._conn: psycopg.Connection[Any] | None = None

    def ask(self, statement: LiteralString, values: tuple[object, ...]) -> Row | None:
        """Return the first row. Raises what the database says; then it asks on a new connection."""
        try:
            if self._conn is None:
                self._conn = psycopg.connect(
                    self._url,
                    autocommit=True,
                    connect_timeout=CONNECT_WITHIN_S,
                    prepare_threshold=None,  # a pooler may hand each statement to another session
                )
            return self._conn.execute(statement, values).fetchone()
        except psycopg.Error:
            if self._conn is not None:
                with suppress(psycopg.Error):
                    self._conn.close()
            self._conn = None
            raise


def work(session: Session, worker: str) -> None:
    """Lease one job after the other, and run and settle each."""
    while True:
        leased = again(partial(session.ask, LEASE, (worker, TYPES, QUEUES, LEASE_S)))
        if leased is None:
            time.sleep(IDLE_S)
            continue
        job_id, lease_id, attempt, seconds = leased
        write(job_id, lease_id, attempt, "start")
        time.sleep(seconds)
        write(job_id, lease_id, attempt, "ok")
        with suppress(*LOST):
            again(partial(session.ask, SETTLE, (job_id, lease_id)))


def again(ask: Callable[[], Row | None]) -> Row | None:
    """Return an answer, however often the database is away. Raises what it refuses."""
    while True:
        try:
            return ask()
        except psycopg.OperationalError:
            time.sleep(AGAIN_S)


def end_with_input() -> None:
    """End this process once its standard input does: with the harness, whatever ends that."""
    sys.stdin.read()
    os._exit(0)


def main() -> None:
    """Work until the process ends."""
    threading.Thread(target=end_with_input, daemon=True).start()
    work(Session(os.environ[DATABASE_URL]), os.environ[WORKER])
