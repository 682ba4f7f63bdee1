"""Whether a pooler stands between us and the server, and whether it leaves us a session of our own.

A pooler in session mode is as good as none: notifications arrive, locks of the session last, settings stay. One in
transaction mode hands each transaction to any server connection. It does not say which it is, so we try.
"""

import os
import select
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import psycopg

from ayb_jobs.storage.hearing import Heard

# How often a second connection looks whether it is given the server connection of the first.
LOOKS = 3
ANSWER_S = 1.0

Open = Callable[[], psycopg.Connection[Any]]


def is_pooled(conn: psycopg.Connection[Any]) -> bool:
    """Tell whether a pooler stands between: it makes up the process id that it tells its clients."""
    return _backend(conn) != conn.info.backend_pid


def has_own_session(conn: psycopg.Connection[Any], open_another: Open) -> bool:
    """Tell whether `conn`, which leads through a pooler, keeps one server connection for as long as it lives.

    If a second connection is given the server connection of the first, it does not. If a notification arrives while
    nothing is asked, it does. If neither is seen, as on a pooler that has no connection to spare, we go without.
    """
    try:
        with closing(open_another()) as other:
            return not _share_a_backend(conn, other) and _hears(conn, other)
    except psycopg.Error:
        return False


def _share_a_backend(conn: psycopg.Connection[Any], other: psycopg.Connection[Any]) -> bool:
    """Tell whether both run on one server connection, or the second one gets none in time."""
    for _ in range(LOOKS):
        ours, theirs = _backend(conn), _answer(other, b"SELECT pg_catalog.pg_backend_pid()")
        if theirs is None or int(theirs) == ours:
            return True
    return False


def _hears(conn: psycopg.Connection[Any], other: psycopg.Connection[Any]) -> bool:
    heard = Heard(conn)
    channel = f"ayb_jobs_try_{os.urandom(8).hex()}"
    conn.execute(f"LISTEN {channel}".encode())
    try:
        _answer(other, f"SELECT pg_catalog.pg_notify('{channel}', '')".encode())
        return any(notify.channel == channel for notify in heard.wait(ANSWER_S))
    finally:
        heard.stop()
        conn.execute(f"UNLISTEN {channel}".encode())


def _backend(conn: psycopg.Connection[Any]) -> int | None:
    row = conn.execute("SELECT pg_catalog.pg_backend_pid()").fetchone()
    return None if row is None else int(row[0])


def _answer(conn: psycopg.Connection[Any], statement: bytes) -> str | None:
    """Return the one value that a statement yields; None if no answer comes in time, when the connection is of no use.

    A pooler without a free server connection lets its client wait for minutes.
    """
    raw = conn.pgconn
    raw.send_query(statement)
    raw.flush()
    give_up = time.monotonic() + ANSWER_S
    waiting = select.poll()
    waiting.register(raw.socket, select.POLLIN)
    while raw.is_busy():
        left_s = give_up - time.monotonic()
        if left_s <= 0 or not waiting.poll(left_s * 1000):
            return None
        raw.consume_input()
    value: str | None = None
    while (result := raw.get_result()) is not None:
        cell = result.get_value(0, 0) if result.ntuples else None
        value = None if cell is None else cell.decode()
    return value
