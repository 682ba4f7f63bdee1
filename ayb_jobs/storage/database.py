"""Opens a connection to PostgreSQL, with every setting that this program relies on."""

import math
from datetime import datetime
from functools import lru_cache
from typing import Any, TypeVar

import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow
from psycopg.types.string import TextLoader

from ayb_jobs.errors import DatabaseError, MigrationError
from ayb_jobs.forks import keep_from_children
from ayb_jobs.frozen import frozen
from ayb_jobs.model.address import RIGHT, address_fault, unknown_parameters
from ayb_jobs.model.instants import instant
from ayb_jobs.storage.encodings import unreadable_encoding
from ayb_jobs.storage.own import OwnConnection, Surroundings, find_surroundings
from ayb_jobs.storage.pooling import has_own_session, is_pooled

Connection = psycopg.Connection[TupleRow]
C = TypeVar("C", bound=psycopg.Connection[Any])

LATE_S = 15.0
# A pooler can be told to share sessions while we run. What one prepared by a name, another would run under it.
NEVER = 2**31
TRANSACTIONS = "set pool_mode = transaction or session, or name the server's own address"

# A cut network is noticed within 10 s: an idle connection after 3 + 3 × 1 s without an answer, a sent statement after
# 5 s. libpq's own defaults leave both hanging for many minutes.
_TCP = {
    "keepalives": 1,
    "keepalives_idle": 3,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "tcp_user_timeout": 5000,
}


class _ClampedInstant(Loader):
    """Loads timestamptz in UTC, clamped to what `datetime` can hold, where psycopg would raise."""

    def load(self, data: Buffer) -> datetime:
        return instant(bytes(data).decode())


@frozen
class Timeouts:
    """How long to wait for a connection and for a statement, in seconds."""

    connect_s: float = 5.0
    statement_s: float = 30.0

    @property
    def late_s(self) -> float:
        """For how long after its client is gone a statement may still be carried out, with some seconds to spare."""
        return self.statement_s + LATE_S


def connect(
    url: str, *, name: str = "ayb-jobs", timeouts: Timeouts | None = None, writable: bool = False
) -> Connection:
    """Open one autocommit connection for any SQL; with `writable`, to a server that takes writes, not to a standby.

    Raises `DatabaseError` if that fails, without the password.
    """
    limits = timeouts or Timeouts()
    conn: Connection = _open(url, name, limits, psycopg.Connection, writable=writable)
    return _set_up(conn, url, limits)


def connect_for_ourselves(
    url: str,
    *,
    name: str,
    timeouts: Timeouts | None = None,
    writable: bool = True,
    surroundings: Surroundings | None = None,
) -> OwnConnection:
    """Open what `connect` does for our own SQL alone: no other role's objects are taken for ours (see `own`).

    The server is asked where our tables are, unless `surroundings` tells it.
    """
    limits = timeouts or Timeouts()
    conn: OwnConnection = _set_up(_open(url, name, limits, OwnConnection, writable=writable), url, limits)
    try:
        keep_to_ourselves(conn, surroundings)
        if shares_sessions(conn):
            conn.execute("SELECT")
    except psycopg.errors.ProtocolViolation as error:  # as PgBouncer calls a transaction in statement mode
        conn.close()
        raise MigrationError(
            f"the pooler allows no transactions, so that nothing can work: {_first_line(error)}; {TRANSACTIONS}"
        ) from error
    except psycopg.Error as error:
        conn.close()
        raise DatabaseError(f"cannot use the database: {_first_line(error)}") from error
    return conn


def connect_to_primary(url: str, *, name: str, timeouts: Timeouts | None = None) -> OwnConnection:
    """Open one connection for our own SQL: to the server that takes writes, if the address names several, else to any.

    Raises `DatabaseError` if none answers.
    """
    try:
        return connect_for_ourselves(url, name=name, timeouts=timeouts, writable=True)
    except DatabaseError:
        return connect_for_ourselves(url, name=name, timeouts=timeouts, writable=False)


def shares_sessions(conn: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> bool:
    """Tell whether a pooler may hand each transaction of this connection to another session: nothing lasts on it."""
    return conn.prepare_threshold is None


def _open(url: str, name: str, limits: Timeouts, kind: type[C], *, writable: bool) -> C:
    try:
        return kind.connect(conninfo(url, name, limits, writable=writable), autocommit=True, prepare_threshold=None)
    except (psycopg.Error, UnicodeError) as error:
        if unreadable := unreadable_encoding(error):
            raise MigrationError(unreadable) from error
        raise DatabaseError(f"cannot connect to the database: {_first_line(error)}") from error


def _set_up(conn: C, url: str, limits: Timeouts) -> C:
    try:
        configure(conn, url, limits)
    except psycopg.Error as error:
        raise DatabaseError(f"cannot use the database: {_first_line(error)}") from error
    return conn


@lru_cache(maxsize=64)  # to read and write one takes longer than a statement, and a daemon opens some ten connections
def conninfo(url: str, name: str, limits: Timeouts, *, writable: bool) -> str:
    """Return the connection string with our settings added; what its author set is kept.

    But for the client's encoding: psycopg reads texts as bytes on a database that has none, unless we name ours.
    """
    ours: dict[str, str | int] = {**_TCP, "application_name": name, "connect_timeout": max(2, round(limits.connect_s))}
    if writable:
        ours["target_session_attrs"] = "read-write"
    if fault := unreadable(url):
        raise DatabaseError(f"the database's address {fault}")
    theirs = conninfo_to_dict(url)
    ours = {key: value for key, value in ours.items() if key not in theirs}
    return make_conninfo(url, **ours, client_encoding="UTF8")


def unreadable(url: str) -> str | None:
    """Return why a database's address cannot be read, and what to write, without any part of it; None if it can be."""
    if fault := address_fault(url):
        return fault
    try:
        conninfo_to_dict(url)
    except psycopg.Error:  # its message quotes the text, password and all
        return unknown_parameters(url, _known_parameters()) or f"is neither a URL nor `key=value` words; {RIGHT}"
    return None


def _known_parameters() -> set[str]:
    return {option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()}


# Instants are read in ISO style, whatever the database or the role prefers. The server notices that a client is gone as
# soon as we notice that of the server; by itself it would keep the connection, one of a hundred that it has, for two
# hours.
SET_SESSION = """
    SELECT pg_catalog.set_config('statement_timeout', %(statement_ms)s, false), pg_catalog.set_config('DateStyle', 'ISO', false),
        pg_catalog.set_config('array_nulls', 'on', false),
        pg_catalog.set_config('idle_session_timeout', '0', false), pg_catalog.set_config('tcp_keepalives_idle', '3', false), pg_catalog.set_config('tcp_keepalives_interval', '1', false),
        pg_catalog.set_config('tcp_keepalives_count', '3', false)
"""
# A handler may take its time to read an answer: its connections are left as the server has them.
SET_USER_TIMEOUT = ", pg_catalog.set_config('tcp_user_timeout', '5000', false)"
BEAR_SILENCE = """
    SELECT pg_catalog.set_config('tcp_keepalives_interval', %s, false), pg_catalog.set_config('tcp_keepalives_count', '100', false),
        pg_catalog.set_config('tcp_user_timeout', %s, false)
"""


def configure(conn: psycopg.Connection[Any], url: str, limits: Timeouts, *, reads_at_once: bool = True) -> None:
    """Set up a new connection; one that cannot be is closed, which psycopg's pool leaves to the garbage collector."""
    keep_from_children(conn)
    clamp_instants(conn)
    try:
        pooled = is_pooled(conn)
        if pooled and not has_own_session(conn, lambda: _open_another(url, limits)):
            # A pooler hands each transaction to any server connection: nothing may be left behind on one.
            return
        conn.prepare_threshold = NEVER if pooled else 5
        statement = SET_SESSION + SET_USER_TIMEOUT if reads_at_once else SET_SESSION
        conn.execute(statement, {"statement_ms": milliseconds(limits.statement_s)})
    except psycopg.Error:
        conn.close()
        raise


def clamp_instants(conn: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> None:
    """Have a connection read ids as text, and any instant without an error."""
    conn.adapters.register_loader("uuid", TextLoader)
    conn.adapters.register_loader("timestamptz", _ClampedInstant)


def _open_another(url: str, limits: Timeouts) -> psycopg.Connection[Any]:
    return psycopg.connect(
        conninfo(url, "ayb-jobs-try", limits, writable=False), autocommit=True, prepare_threshold=None
    )


def keep_to_ourselves(conn: OwnConnection, surroundings: Surroundings | None = None) -> None:
    """Have a connection take no other role's objects for ours.

    The server is asked for what `surroundings` does not tell.
    """
    conn.keep_to(surroundings or find_surroundings(conn), lasts=not shares_sessions(conn))


def bear_silence(conn: Connection, seconds: float) -> None:
    """Have the server keep a connection for so long whose client is silent, answers being under way or not.

    That the client has given it up is noticed sooner, once packets arrive again.
    """
    conn.execute(BEAR_SILENCE, (str(math.ceil(seconds / 100)), milliseconds(seconds)))


def is_refused(error: BaseException) -> bool:
    """Tell whether the server refused a statement, so that for certain nothing of it was done.

    A server that shuts down may say so of a statement that it has carried out, while that waited for a standby.
    """
    sqlstate = error.sqlstate if isinstance(error, psycopg.Error) else None
    return sqlstate is not None and not sqlstate.startswith(("08", "57P"))


def milliseconds(seconds: float) -> str:
    """Return a time as PostgreSQL's settings take it; at least 1, since 0 would be no limit."""
    return str(max(1, round(seconds * 1000)))


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
