"""Connections to PostgreSQL, with every setting that this daemon relies on."""

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow
from psycopg.types.string import TextLoader
from psycopg_pool import ConnectionPool, PoolTimeout

from ayb_jobs.errors import DatabaseError
from ayb_jobs.forks import keep_from_children
from ayb_jobs.model.address import RIGHT, address_fault
from ayb_jobs.model.job import instant
from ayb_jobs.storage.encodings import write_what_can_be_kept
from ayb_jobs.storage.own import OwnConnection, OwnCursor, find_surroundings, is_idle
from ayb_jobs.storage.pooling import has_own_session, is_pooled
from ayb_jobs.storage.work_connection import WorkConnection

Connection = psycopg.Connection[TupleRow]
C = TypeVar("C", bound=psycopg.Connection[Any])

LATE_S = 15.0
# After how long the pool's attempts to connect begin anew, at the shortest wait between them.
RECONNECT_S = 1.0

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


@dataclass(frozen=True, slots=True, kw_only=True)
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
    url: str, *, name: str, timeouts: Timeouts | None = None, writable: bool = True
) -> OwnConnection:
    """Open what `connect` does for our own SQL alone: no other role's objects are taken for ours (see `own`)."""
    limits = timeouts or Timeouts()
    conn: OwnConnection = _set_up(_open(url, name, limits, OwnConnection, writable=writable), url, limits)
    try:
        keep_to_ourselves(conn)
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


def shares_sessions(conn: psycopg.Connection[Any]) -> bool:
    """Tell whether a pooler may hand each transaction of this connection to another session: nothing lasts on it."""
    return conn.prepare_threshold is None


def _open(url: str, name: str, limits: Timeouts, kind: type[C], *, writable: bool) -> C:
    try:
        return kind.connect(_conninfo(url, name, limits, writable=writable), autocommit=True, prepare_threshold=None)
    except (psycopg.Error, UnicodeError) as error:
        raise DatabaseError(f"cannot connect to the database: {_first_line(error)}") from error


def _set_up(conn: C, url: str, limits: Timeouts) -> C:
    try:
        _configure(conn, url, limits)
    except psycopg.Error as error:
        raise DatabaseError(f"cannot use the database: {_first_line(error)}") from error
    return conn


def _conninfo(url: str, name: str, limits: Timeouts, *, writable: bool) -> str:
    """Return the connection string with our settings added; what its author set is kept.

    But for the client's encoding: psycopg reads texts as bytes on a database that has none, unless we name ours.
    """
    ours: dict[str, str | int] = {**_TCP, "application_name": name, "connect_timeout": max(2, round(limits.connect_s))}
    if writable:
        ours["target_session_attrs"] = "read-write"
    if fault := address_fault(url):
        raise DatabaseError(f"the database's address {fault}")
    try:
        theirs = conninfo_to_dict(url)
    except psycopg.Error:  # its message quotes the text, password and all
        raise DatabaseError(f"the database's address is neither a URL nor `key=value` words; {RIGHT}") from None
    ours = {key: value for key, value in ours.items() if key not in theirs}
    return make_conninfo(url, **ours, client_encoding="UTF8")


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


SET_PATH = "SELECT pg_catalog.set_config('search_path', %(path)s, %(for_transaction)s)"


def _configure(conn: psycopg.Connection[Any], url: str, limits: Timeouts, *, reads_at_once: bool = True) -> None:
    """Set up a new connection; one that cannot be is closed, which psycopg's pool leaves to the garbage collector."""
    keep_from_children(conn)
    conn.adapters.register_loader("uuid", TextLoader)
    conn.adapters.register_loader("timestamptz", _ClampedInstant)
    try:
        if is_pooled(conn) and not has_own_session(conn, lambda: _open_another(url, limits)):
            # A pooler hands each transaction to any server connection: nothing may be left behind on one.
            return
        conn.prepare_threshold = 5
        statement = SET_SESSION + SET_USER_TIMEOUT if reads_at_once else SET_SESSION
        conn.execute(statement, {"statement_ms": _milliseconds(limits.statement_s)})
    except psycopg.Error:
        conn.close()
        raise


def _open_another(url: str, limits: Timeouts) -> psycopg.Connection[Any]:
    return psycopg.connect(
        _conninfo(url, "ayb-jobs-try", limits, writable=False), autocommit=True, prepare_threshold=None
    )


def keep_to_ourselves(conn: OwnConnection) -> None:
    """Have a connection take no other role's objects for ours.

    Behind a pooler, by the names in our statements alone.
    """
    conn.surroundings = find_surroundings(conn)
    conn.cursor_factory = OwnCursor
    if not shares_sessions(conn):
        conn.execute(SET_PATH, {"path": conn.surroundings.path, "for_transaction": False})


def bear_silence(conn: Connection, seconds: float) -> None:
    """Have the server keep a connection for so long whose client is silent, answers being under way or not.

    That the client has given it up is noticed sooner, once packets arrive again.
    """
    conn.execute(BEAR_SILENCE, (str(math.ceil(seconds / 100)), _milliseconds(seconds)))


def is_refused(error: BaseException) -> bool:
    """Tell whether the server refused a statement, so that for certain nothing of it was done.

    A server that shuts down may say so of a statement that it has carried out, while that waited for a standby.
    """
    sqlstate = error.sqlstate if isinstance(error, psycopg.Error) else None
    return sqlstate is not None and not sqlstate.startswith(("08", "57P"))


class Database:
    """One daemon's connections: some for its own loops, some for handlers and HTTP, so that neither starves the other.

    The loops' connections are opened on demand and kept; a broken one is thrown away with all idle ones, so that after
    a restart of the server each loop's next turn connects anew. (psycopg's pool waits longer and longer between its
    attempts to reconnect, and a daemon must lease again within a second. The pool for handlers is told to give up soon
    and to begin anew, since each handler that waits in vain for it has used up an attempt.)
    """

    def __init__(
        self,
        url: str,
        *,
        name: str = "ayb-jobs",
        work_connections: int = 4,
        timeouts: Timeouts | None = None,
        users_sql: bool = True,
    ) -> None:
        self.url = url
        self.name = name
        self.timeouts = timeouts or Timeouts()
        self._lock = threading.Lock()
        self._idle: list[OwnConnection] = []
        self._closed = False
        self._work: ConnectionPool[Connection] = ConnectionPool(
            _conninfo(url, f"{name}-work", self.timeouts, writable=True),
            connection_class=WorkConnection if users_sql else OwnConnection,
            min_size=0,
            max_size=max(1, work_connections),
            open=False,
            name=f"{name}-work",
            timeout=self.timeouts.connect_s,
            max_idle=60.0,
            reconnect_timeout=RECONNECT_S,
            reconnect_failed=_begin_anew,
            check=ConnectionPool.check_connection,
            configure=self._configure_work,
            kwargs={"autocommit": True, "prepare_threshold": None},
        )

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Lend an autocommit connection for one unit of work.

        Behind a pooler the unit is one transaction, since only there can its statement timeout be set.
        Raises `DatabaseError` where no connection can be had.
        """
        conn = self._take()
        try:
            if shares_sessions(conn):
                with conn.transaction():
                    _limit(conn, self.timeouts, for_transaction=True)
                    yield conn
            else:
                yield conn
        except psycopg.errors.ReadOnlySqlTransaction:
            conn.close()  # the server has become a standby; the next connection looks for the primary
            raise
        finally:
            self._give_back(conn)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Lend a connection inside one transaction: committed at the end, rolled back where an exception leaves it."""
        with self.connection() as conn, conn.transaction():
            yield conn

    @contextmanager
    def work(self) -> Iterator[Connection]:
        """Lend a connection of the pool for handlers and HTTP. Raises `DatabaseError` where none can be had in time."""
        try:
            self._work.open()
            conn = self._work.getconn()
        except PoolTimeout as error:
            raise DatabaseError(
                f"no connection to the database within {self._work.timeout:g} s: it is down, or all"
                f" {self._work.max_size} are in use"
            ) from error
        except psycopg.OperationalError as error:  # of a pool that is closed
            raise DatabaseError("the daemon is stopping, and has closed its connections") from error
        try:
            yield conn
        finally:
            if not conn.closed and conn.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                with suppress(psycopg.Error):
                    conn.rollback()
            self._work.putconn(conn)

    def close(self) -> None:
        """Close every connection. Those lent out are closed when they come back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for conn in idle:
            conn.close()
        self._work.close(timeout=1.0)

    def _configure_work(self, conn: Connection) -> None:
        _configure(conn, self.url, self.timeouts, reads_at_once=False)
        if isinstance(conn, OwnConnection):
            keep_to_ourselves(conn)

    def _take(self) -> OwnConnection:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        conn = connect_for_ourselves(self.url, name=self.name, timeouts=self.timeouts)
        # Statements that pass over locked rows rely on it, whatever the database or the role prefers.
        conn.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        try:
            write_what_can_be_kept(conn)
            if not shares_sessions(conn):
                _limit(conn, self.timeouts, for_transaction=False)
        except psycopg.Error:
            conn.close()
            raise
        return conn

    def _give_back(self, conn: OwnConnection) -> None:
        with self._lock:
            if is_idle(conn) and not self._closed:
                self._idle.append(conn)
                return
            broken, self._idle = self._idle, []
        conn.close()
        for other in broken:
            other.close()


def _begin_anew(pool: ConnectionPool[Connection]) -> None:
    """Have a pool that gave up connecting try again while somebody waits; asking it for a connection makes it do so."""
    if pool.get_stats().get("requests_waiting"):
        with suppress(psycopg.Error):
            pool.putconn(pool.getconn(timeout=0.1))


# The loops' statements are to walk an index in its order. While statistics lag behind a burst of jobs, the planner
# takes the backlog for small, and would sort all of it for each batch. Before PostgreSQL 18, whatever must be sorted
# all the same looks so dear then that the server would compile it first.
LIMIT = """
    SELECT set_config('statement_timeout', %(statement_ms)s, %(for_transaction)s),
        set_config('search_path', %(path)s, %(for_transaction)s),
        set_config('enable_sort', 'off', %(for_transaction)s), set_config('jit', 'off', %(for_transaction)s),
        set_config('DateStyle', 'ISO', %(for_transaction)s), set_config('TimeZone', 'UTC', %(for_transaction)s),
        set_config('array_nulls', 'on', %(for_transaction)s),
        set_config('default_transaction_isolation', 'read committed', %(for_transaction)s)
"""


def _limit(conn: OwnConnection, limits: Timeouts, *, for_transaction: bool) -> None:
    """Set what holds for the loops' statements, for this transaction or for as long as the connection lives."""
    values = {"statement_ms": _milliseconds(limits.statement_s), "path": conn.surroundings.path}
    conn.execute(LIMIT, {**values, "for_transaction": for_transaction})


def _milliseconds(seconds: float) -> str:
    return str(max(1, round(seconds * 1000)))


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
