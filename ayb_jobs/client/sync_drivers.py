"""Sending statements by each synchronous driver."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, Protocol, TypeVar

from ayb_jobs.client.copying import Copied, as_members
from ayb_jobs.client.dialects import sqlalchemy_text, with_literals
from ayb_jobs.client.hearing import Wait, deaf, psycopg_hearing
from ayb_jobs.client.steps import Row, Steps, enqueue_all, join_batch
from ayb_jobs.errors import NotTaken
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.storage.queue.enqueueing import COPY_DUE_JOBS, COPY_DUE_MEMBERS, NOTIFY

T = TypeVar("T")
# How each begins, how it ends well, and how it is undone.
TRANSACTION = "BEGIN", "COMMIT", ["ROLLBACK"]
RELEASE = "RELEASE SAVEPOINT _ayb_jobs_enqueue"
SAVEPOINT = "SAVEPOINT _ayb_jobs_enqueue", RELEASE, ["ROLLBACK TO SAVEPOINT _ayb_jobs_enqueue", RELEASE]
IDLE = 0  # libpq's status of a connection outside any transaction
VERSION = 10_000


class SyncDriver(Protocol):
    """One connection of the caller's."""

    def __init__(self, conn: Any) -> None: ...

    def server_version(self) -> int:
        """Return the server's version, such as 180001."""
        ...

    def fetch(self, statement: str, values: Mapping[str, Any]) -> Row | None:
        """Run a statement in the caller's transaction and return its first row."""
        ...

    def enqueue_all(self, jobs: Iterable[tuple[str, NewJob]], trace: str | None, batch_id: str | None = None) -> int:
        """Insert jobs with their ids, all or none, and return how many were made; as members of a batch, if given."""
        ...

    def in_transaction(self) -> bool:
        """Tell whether the caller's transaction is under way."""
        ...

    def leave(self) -> None:
        """End the transaction that a statement began by itself."""
        ...

    def hearing(self, job_id: str, backend_pid: int) -> AbstractContextManager[Wait]:
        """Wait for a job, on a connection to the server's process of that number; see `hearing`."""
        ...


def run(steps: Steps[T], fetch: Callable[[str, Mapping[str, Any]], Row | None]) -> T:
    """Send what the steps ask for, one after the other, and return what comes of them."""
    row: Row | None = None
    while True:
        try:
            statement, values = steps.send(row) if row is not None else next(steps)
        except StopIteration as done:
            result: T = done.value
            return result
        row = fetch(statement, values)


@contextmanager
def all_or_none(execute: Callable[[str], None], *, commits_each: bool) -> Iterator[None]:
    """Run a block in a transaction, or in a savepoint unless each statement is committed by itself.

    If it fails on a connection that is lost, the server undoes it by itself.
    """
    begin, end, undo = TRANSACTION if commits_each else SAVEPOINT
    execute(begin)
    try:
        yield
    except BaseException:
        with suppress(Exception):  # what failed first is told
            for statement in undo:
                execute(statement)
        raise
    execute(end)


def plain_rows(_cursor: Any) -> type[tuple[Any, ...]]:
    """Make rows tuples, whatever the application makes of its own."""
    return tuple


class Psycopg:
    """A psycopg `Connection`."""

    def __init__(self, conn: Any) -> None:
        self._conn = conn

    def server_version(self) -> int:
        """Return the server's version."""
        return int(self._conn.info.server_version)

    def fetch(self, statement: str, values: Mapping[str, Any]) -> Row | None:
        """Return a statement's first row."""
        with self._conn.cursor(row_factory=plain_rows) as cursor:
            row: Row | None = cursor.execute(statement, with_literals(values)).fetchone()
            return row

    def enqueue_all(self, jobs: Iterable[tuple[str, NewJob]], trace: str | None, batch_id: str | None = None) -> int:
        """Copy jobs, and insert those for which something has to be looked up.

        Jobs are sent while `jobs` is still being read, so reading it must not use the connection.
        """
        copied = Copied(jobs, trace, batch_id)
        with self._all_or_none(), self._conn.cursor(row_factory=plain_rows) as cursor:
            if batch_id is not None:
                run(join_batch(batch_id), self.fetch)
            with cursor.copy(COPY_DUE_JOBS if batch_id is None else COPY_DUE_MEMBERS) as copy:
                for chunk in copied.chunks():
                    copy.write(chunk)
            count = int(cursor.rowcount)  # without those that a trigger drops
            if count:
                cursor.execute(NOTIFY)
            return count + run(enqueue_all(copied.others, trace), self.fetch)

    def _all_or_none(self) -> AbstractContextManager[object]:
        """Return a transaction, or a savepoint in the caller's.

        A connection without autocommit and outside a transaction is left to begin one by itself, for its owner to
        commit.
        """
        begins_its_own = not self._conn.autocommit and self._conn.info.transaction_status == IDLE
        transaction: AbstractContextManager[object] = (
            self._rolled_back_if_it_fails() if begins_its_own else self._conn.transaction()
        )
        return transaction

    @contextmanager
    def _rolled_back_if_it_fails(self) -> Iterator[None]:
        """Leave nothing in a transaction that began within the block, should its owner commit it all the same."""
        try:
            yield
        except BaseException:
            if not self._conn.closed:
                self._conn.rollback()
            raise

    def in_transaction(self) -> bool:
        """Tell whether a transaction is under way."""
        return bool(self._conn.info.transaction_status != IDLE)

    def leave(self) -> None:
        """End what a statement began by itself."""
        if not self._conn.autocommit:
            self._conn.commit()

    def hearing(self, job_id: str, backend_pid: int) -> AbstractContextManager[Wait]:
        """Wait for a notification."""
        return psycopg_hearing(self._conn, job_id, backend_pid)


class Sqlalchemy:
    """An SQLAlchemy `Connection`."""

    def __init__(self, conn: Any) -> None:
        self._conn = on_postgresql(conn)

    def server_version(self) -> int:
        """Return the server's version."""
        return int(self._conn.dialect.server_version_info[0]) * VERSION

    def fetch(self, statement: str, values: Mapping[str, Any]) -> Row | None:
        """Return a statement's first row."""
        row: Row | None = self._conn.execute(sqlalchemy_text(statement), values).fetchone()
        return row

    def enqueue_all(self, jobs: Iterable[tuple[str, NewJob]], trace: str | None, batch_id: str | None = None) -> int:
        """Insert jobs by a statement for each way in which some of them are made."""
        members = as_members(jobs, batch_id)  # the jobs may be read from this connection
        with all_or_none(self._execute, commits_each=self._commits_each()):
            return run(enqueue_all(members, trace), self.fetch)

    def _execute(self, statement: str) -> None:
        self._conn.exec_driver_sql(statement)

    def _commits_each(self) -> bool:
        """Tell whether each statement is committed by itself, by the isolation level AUTOCOMMIT."""
        return bool(self._conn.connection.dbapi_connection.autocommit)

    def in_transaction(self) -> bool:
        """Tell whether a transaction is under way."""
        return bool(self._conn.in_transaction())

    def leave(self) -> None:
        """End what a statement began by itself."""
        self._conn.commit()

    def hearing(self, job_id: str, backend_pid: int) -> AbstractContextManager[Wait]:
        """Wait for time to pass."""
        _ = job_id, backend_pid
        return deaf()


class SqlalchemySession(Sqlalchemy):
    """An SQLAlchemy `Session`, or a registry of them: its connection is in its transaction."""

    def __init__(self, conn: Any) -> None:
        self._session = conn() if callable(conn) else conn  # a registry returns the session that is current
        self._conn = None

    def server_version(self) -> int:
        """Return the server's version, by the session's connection."""
        self._begin()
        return super().server_version()

    def fetch(self, statement: str, values: Mapping[str, Any]) -> Row | None:
        """Return a statement's first row."""
        self._begin()
        return super().fetch(statement, values)

    def enqueue_all(self, jobs: Iterable[tuple[str, NewJob]], trace: str | None, batch_id: str | None = None) -> int:
        """Insert jobs on the session's connection."""
        self._begin()
        return super().enqueue_all(jobs, trace, batch_id)

    def in_transaction(self) -> bool:
        """Tell whether a transaction is under way."""
        return bool(self._session.in_transaction())

    def leave(self) -> None:
        """End what a statement began by itself, but not by a rollback: the session would forget what it has loaded."""
        self._session.commit()
        self._conn = None

    def _begin(self) -> None:
        """Take the connection that the session has for its transaction."""
        if self._conn is None:
            self._conn = on_postgresql(self._session.connection())


class Django:
    """Django's `connection`."""

    def __init__(self, conn: Any) -> None:
        if conn.vendor != "postgresql":
            raise NotTaken(
                f"the connection {conn.alias!r} is to {conn.vendor}; the queue is in PostgreSQL", field="conn"
            )
        self._conn = conn

    def server_version(self) -> int:
        """Return the server's version."""
        return int(self._conn.pg_version)

    def fetch(self, statement: str, values: Mapping[str, Any]) -> Row | None:
        """Return a statement's first row."""
        with self._conn.cursor() as cursor:
            cursor.execute(statement, values)
            row: Row | None = cursor.fetchone()
            return row

    def enqueue_all(self, jobs: Iterable[tuple[str, NewJob]], trace: str | None, batch_id: str | None = None) -> int:
        """Copy jobs if psycopg 3 is behind it, else insert them as SQLAlchemy's driver does."""
        self._conn.ensure_connection()
        self._conn.validate_no_broken_transaction()
        behind = self._conn.connection
        if type(behind).__module__.partition(".")[0] == "psycopg":
            return Psycopg(behind).enqueue_all(jobs, trace, batch_id)
        members = as_members(jobs, batch_id)
        with all_or_none(self._execute, commits_each=not self.in_transaction()):
            return run(enqueue_all(members, trace), self.fetch)

    def _execute(self, statement: str) -> None:
        with self._conn.cursor() as cursor:
            cursor.execute(statement)

    def in_transaction(self) -> bool:
        """Tell whether a transaction is under way."""
        return bool(self._conn.in_atomic_block or not self._conn.get_autocommit())

    def leave(self) -> None:
        """Do nothing: outside a transaction of the caller's each statement is committed by itself."""

    def hearing(self, job_id: str, backend_pid: int) -> AbstractContextManager[Wait]:
        """Wait for time to pass."""
        _ = job_id, backend_pid
        return deaf()


def on_postgresql(conn: Any) -> Any:
    """Return a connection of SQLAlchemy's; raises `NotTaken` unless it is to PostgreSQL."""
    if conn.dialect.name != "postgresql":
        raise NotTaken(f"the connection is to {conn.dialect.name}; the queue is in PostgreSQL", field="conn")
    return conn
