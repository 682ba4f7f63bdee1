"""Locks on our tables: whoever takes one, as by CREATE INDEX or VACUUM FULL, keeps every statement of ours waiting."""

from typing import Any

import psycopg
from psycopg.errors import LockNotAvailable, QueryCanceled

from ayb_jobs.errors import DatabaseError


class TableLocked(DatabaseError):
    """Another session has a lock on a table of ours. No row is at fault, and the same statement succeeds later."""


def waited_in_vain(error: BaseException) -> bool:
    """Tell whether a statement was ended because it took too long, as it does when it waits for a lock."""
    return isinstance(error, LockNotAvailable | QueryCanceled) or isinstance(error.__cause__, LockNotAvailable)


# The kinds of lock that writing has to wait for, also behind a session that waits for one itself.
FIND_TABLE_LOCK = r"""
    SELECT format(
        '%%s %%s the lock %%s on %%s',
        coalesce('session ' || held.pid, 'a prepared transaction'),
        CASE WHEN held.granted THEN 'has' ELSE 'waits for' END,
        held.mode,
        class.relname
    )
    FROM pg_locks AS held
    JOIN pg_class AS class ON class.oid = held.relation
    WHERE held.locktype = 'relation'
        AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND class.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = to_regclass('_ayb_jobs'))
        AND class.relkind = 'r' AND class.relname LIKE '\_ayb\_job%%'
        AND held.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
        AND held.pid IS DISTINCT FROM pg_backend_pid()
    ORDER BY held.granted DESC, held.pid
    LIMIT 1
"""


def find_table_lock(conn: psycopg.Connection[Any]) -> str | None:
    """Return in words who keeps a table of ours from being written to just now; None if nobody does."""
    row = conn.execute(FIND_TABLE_LOCK, ()).fetchone()
    return None if row is None else f"{row[0]}; what is to be written waits for it to go"
