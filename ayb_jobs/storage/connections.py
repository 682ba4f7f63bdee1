"""A daemon's connections: some for its own loops, some for handlers and HTTP."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg_pool import AsyncConnectionPool, ConnectionPool, PoolTimeout

from ayb_jobs.errors import DatabaseError
from ayb_jobs.storage.database import (
    Connection,
    Timeouts,
    configure,
    connect_for_ourselves,
    conninfo,
    keep_to_ourselves,
    milliseconds,
    shares_sessions,
)
from ayb_jobs.storage.encodings import write_what_can_be_kept
from ayb_jobs.storage.faults import is_anothers_session
from ayb_jobs.storage.own import OwnConnection, Surroundings, is_idle, surroundings_of
from ayb_jobs.storage.table_locks import TableLocked, find_table_lock, waited_in_vain

# After how long the pool's attempts to connect begin anew, at the shortest wait between them.
RECONNECT_S = 1.0
# How long others wait for the first connection to have asked where our tables are.
OTHERS_ASK_S = 0.1
# How long a patient loop waits for another's connection; one more costs as much as hundreds of jobs.
SHARE_S = 0.1


class Database:
    """One daemon's connections: some for its own loops, some for handlers and HTTP, so that neither starves the other.

    The loops' connections are opened on demand and kept. A broken one is thrown away with all idle ones, so after a
    restart of the server each loop's next turn connects anew. (psycopg's pool waits longer and longer between its
    attempts to reconnect, and a daemon must lease again within a second. The pool for handlers is told to give up soon
    and to begin anew, since each handler that waits in vain for it has used up an attempt.)

    Where our tables are is asked by the first connection, and by the first after a broken one.
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
        self._has_idle = threading.Condition(self._lock)
        self._idle: list[OwnConnection] = []
        self._lent = 0
        self._closed = False
        self._surroundings: Surroundings | None = None
        self._asking = threading.Lock()
        self._work: ConnectionPool[Connection] = ConnectionPool(
            conninfo(url, f"{name}-work", self.timeouts, writable=True),
            connection_class=psycopg.Connection if users_sql else OwnConnection,
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

    @property
    def known_surroundings(self) -> Surroundings | None:
        """Where our tables are, and the path for our statements on connections of users; None if nobody asked yet."""
        return self._surroundings

    def known_at(self, url: str) -> Surroundings | None:
        """Return `known_surroundings` for whoever connects by itself, if it is to the same address."""
        return self._surroundings if url == self.url else None

    def surroundings(self) -> Surroundings:
        """Return `known_surroundings`, or ask for them."""
        if (known := self._surroundings) is not None:
            return known
        with self.connection() as conn:
            return surroundings_of(conn)

    def resize(self, work_connections: int) -> None:
        """Lend so many connections for work at once from now on. Those too many are closed as they come back."""
        self._work.resize(0, max(1, work_connections))

    @contextmanager
    def connection(self, *, patient: bool = False) -> Iterator[Connection]:
        """Lend an autocommit connection for one unit of work.

        Whoever is `patient` waits a moment for one that comes back, before one more is opened.
        Behind a pooler the unit is one transaction, since only there can its statement timeout be set.
        Raises `DatabaseError` if no connection can be had, and `TableLocked` if a statement of the block was ended for
        taking too long while somebody has one of our tables locked.
        """
        try:
            with self._lend(patient=patient) as conn:
                yield conn
        except Exception as error:
            if waited_in_vain(error) and (lock := self._find_table_lock()):
                raise TableLocked(lock) from error
            raise

    def _find_table_lock(self) -> str | None:
        with suppress(psycopg.Error, DatabaseError), self._lend() as conn:
            return find_table_lock(conn)
        return None

    @contextmanager
    def _lend(self, *, patient: bool = False) -> Iterator[Connection]:
        conn = self._take(patient=patient)
        try:
            if shares_sessions(conn):
                with conn.transaction():
                    _limit(conn, self.timeouts, for_transaction=True)
                    yield conn
            else:
                yield conn
        except psycopg.Error as error:
            if isinstance(error, psycopg.errors.ReadOnlySqlTransaction) or is_anothers_session(error):
                conn.close()  # the server has become a standby, or a pooler shares sessions: the next one finds out
            raise
        finally:
            self._give_back(conn)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Lend a connection inside one transaction: committed at the end, rolled back if an exception leaves it."""
        with self.connection() as conn, conn.transaction():
            yield conn

    @contextmanager
    def work(self) -> Iterator[Connection]:
        """Lend a connection of the pool for handlers and HTTP. Raises `DatabaseError` if none can be had in time."""
        with worded_pool_faults(self._work):
            self._work.open()
            conn = self._work.getconn()
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

    def take_over(self, conn: OwnConnection) -> None:
        """Lend this connection to loops as well: one to the same address that nobody else uses from now on.

        A new one would cost its opener more than the statements for which a daemon needs its first.
        """
        self._set_up(conn)
        with self._lock:
            self._surroundings = conn.surroundings
            if not self._closed:
                self._idle.append(conn)
                return
        conn.close()

    def _configure_work(self, conn: Connection) -> None:
        configure(conn, self.url, self.timeouts, reads_at_once=False)
        if isinstance(conn, OwnConnection):
            keep_to_ourselves(conn, self._surroundings)

    def _take(self, *, patient: bool) -> OwnConnection:
        with self._lock:
            if patient and self._lent and not self._idle:
                self._has_idle.wait_for(lambda: self._idle or not self._lent, SHARE_S)
            self._lent += 1
            if self._idle:
                return self._idle.pop(self._best_idle())
        try:
            return self._open()
        except BaseException:
            with self._lock:
                self._lent -= 1
                self._has_idle.notify()
            raise

    def _best_idle(self) -> int:
        """Return the place of the idle connection that this thread had last: there its statements are prepared."""
        thread = threading.get_ident()
        return next((place for place, conn in enumerate(self._idle) if conn.last_thread == thread), 0)

    def _open(self) -> OwnConnection:
        conn = self._connect()
        self._set_up(conn)
        return conn

    def _set_up(self, conn: OwnConnection) -> None:
        """Make a connection ready for loops; one that cannot be is closed."""
        # Statements that pass over locked rows rely on it, whatever the database or the role prefers.
        conn.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        try:
            write_what_can_be_kept(conn)
            if not shares_sessions(conn):
                _limit(conn, self.timeouts, for_transaction=False)
        except psycopg.Error:
            conn.close()
            raise

    def _connect(self) -> OwnConnection:
        """Connect; while the surroundings are unknown, have others wait a moment for the first to ask.

        All loops connect at once when a daemon starts, and the question is the dearest that a new connection has.
        """
        asks = self._surroundings is None and self._asking.acquire(timeout=OTHERS_ASK_S)
        try:
            conn = connect_for_ourselves(
                self.url, name=self.name, timeouts=self.timeouts, surroundings=self._surroundings
            )
            self._surroundings = conn.surroundings
        finally:
            if asks:
                self._asking.release()
        return conn

    def _give_back(self, conn: OwnConnection) -> None:
        with self._lock:
            self._lent -= 1
            self._has_idle.notify()
            if is_idle(conn) and not self._closed:
                conn.last_thread = threading.get_ident()
                self._idle.append(conn)
                return
            broken, self._idle = self._idle, []
            self._surroundings = None
        conn.close()
        for other in broken:
            other.close()


@contextmanager
def worded_pool_faults(pool: ConnectionPool[Any] | AsyncConnectionPool[Any]) -> Iterator[None]:
    """Raise what a pool raises that lends no connection as `DatabaseError`."""
    try:
        yield
    except PoolTimeout as error:
        raise DatabaseError(
            f"no connection to the database within {pool.timeout:g} s: it is down, or all {pool.max_size} are in use"
        ) from error
    except psycopg.OperationalError as error:  # of a pool that is closed
        raise DatabaseError("the daemon is stopping, and has closed its connections") from error


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
    values = {"statement_ms": milliseconds(limits.statement_s), "path": conn.surroundings.path}
    conn.execute(LIMIT, {**values, "for_transaction": for_transaction})
