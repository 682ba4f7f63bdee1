"""Transactions for callers who wait: bounded in time, and failing as `DatabaseError` alone."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import LiteralString

import psycopg
from psycopg.errors import InsufficientPrivilege, QueryCanceled

from ayb_jobs.errors import ConnectionLost, DatabaseError, TookTooLong
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.faults import NOT_SET_UP, is_outage, not_ours_to_use
from ayb_jobs.storage.queue.jobs import refusing_bad_values

UNREACHED = "the database cannot be reached"
# Set for one transaction, so that nothing stays behind on a connection that a pooler lends to others.
LIMIT_TRANSACTION = "SELECT set_config('statement_timeout', %(timeout)s, true)"
LIMIT_READING = """
    SELECT set_config('statement_timeout', %(timeout)s, true), set_config('transaction_read_only', 'on', true)
"""


@contextmanager
def reading(database: Database, timeout_s: float) -> Iterator[Connection]:
    """Lend a connection in a transaction that cannot write, each of whose statements may take `timeout_s`.

    Raises `DatabaseError` if the database cannot be reached, is not set up, refuses its user, or takes too long.
    """
    with _bounded(database.work(), LIMIT_READING, timeout_s) as conn:
        yield conn


@contextmanager
def writing(database: Database, timeout_s: float) -> Iterator[Connection]:
    """Lend a connection in one transaction, each of whose statements may take `timeout_s`.

    Raises `DatabaseError` where the database cannot be reached or a statement takes too long; nothing is written then.
    """
    with _bounded(database.work(), LIMIT_TRANSACTION, timeout_s) as conn:
        yield conn


@contextmanager
def probing(database: Database, timeout_s: float) -> Iterator[Connection]:
    """Lend what `reading` does, on a connection of the daemon's own loops.

    For probes, which must tell of an outage at once rather than wait for a connection of the pool that others share.
    """
    with _bounded(database.connection(), LIMIT_READING, timeout_s) as conn:
        yield conn


@contextmanager
def _bounded(
    connection: AbstractContextManager[Connection], limit: LiteralString, timeout_s: float
) -> Iterator[Connection]:
    try:
        with connection as conn, refusing_bad_values(), conn.transaction():
            conn.execute(limit, {"timeout": str(round(timeout_s * 1000))})
            yield conn
    except QueryCanceled as error:
        raise TookTooLong(f"the database took longer than {timeout_s:g} s; narrow the question or try later") from error
    except (*NOT_SET_UP, InsufficientPrivilege) as error:
        raise not_ours_to_use(error) from error
    except (psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError) as error:
        said = error.diag.message_primary  # None where the connection broke before the server could say anything
        if is_outage(error):
            raise ConnectionLost(f"the database ended the connection: {said}" if said else UNREACHED) from error
        raise DatabaseError(f"the database refuses: {said}" if said else UNREACHED) from error
