"""Bringing a database's schema up to date: plain SQL files, numbered, forward only.

All that is missing is applied in one transaction: either the whole upgrade, or nothing. One of any number of daemons
starting at once does it. The others ask again and again for a lock rather than wait for it: a session that waits
inside a statement holds a snapshot, and an index that is built concurrently elsewhere would wait for that snapshot.
The lock belongs to the transaction, so that it is safe behind a pooler that shares sessions between transactions.
"""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import psycopg
from psycopg.errors import Diagnostic

from ayb_jobs.errors import DatabaseError, MigrationError
from ayb_jobs.frozen import frozen
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.faults import words_of
from ayb_jobs.storage.migrations import Migration, shipped_migrations
from ayb_jobs.storage.own import qualified, surroundings_of
from ayb_jobs.storage.rights import functions_schema, has_functions, list_ours, settle_rights
from ayb_jobs.storage.rows import one_row

OnStep = Callable[[str], None]

PATIENCE_S = 300.0  # for another migrating process, or for locks that an application holds
POLL_S = 0.2
RAISED_BY_A_FILE = "00000"  # the SQLSTATE of RAISE NOTICE; PostgreSQL's own notices ("already exists") bear others


@frozen
class Applied:
    """What a run of `migrate` did: nothing if the schema was current. `notices` are for an operator to read."""

    migrations: Sequence[Migration]
    notices: Sequence[str]


@frozen
class SchemaStatus:
    """The schema's version and the one this program needs."""

    version: int
    needed: int
    pending: int

    @property
    def is_current(self) -> bool:
        """Whether this program can work on the schema as it is."""
        return self.pending == 0 and self.version == self.needed


def pending(conn: Connection) -> list[Migration]:
    """Return what `migrate` would apply, in order.

    Raises `MigrationError` if the schema is newer than this program, or a migration was changed after it had been
    applied.
    """
    known = shipped_migrations()
    applied = _applied_checksums(conn)
    _refuse_newer_schema(known, applied)
    _refuse_changed_files(known, applied)
    return [migration for migration in known if migration.version not in applied]


def schema_status(conn: Connection) -> SchemaStatus:
    """Compare the schema with what this program needs; reads only, and refuses nothing."""
    known = [migration.version for migration in shipped_migrations()]
    applied = _applied_checksums(conn)
    return SchemaStatus(
        version=max(applied, default=0),
        needed=max(known),
        pending=sum(version not in applied for version in known),
    )


def migrate(
    conn: Connection,
    on_step: OnStep = lambda _: None,
    *,
    on_wait: OnStep = lambda _: None,
    patience_s: float = PATIENCE_S,
) -> Applied:
    """Apply what is pending, on an autocommit connection, and return what was applied.

    `on_step` is told what goes on, a line at a time, and `on_wait` what it waits for. Raises `MigrationError`, with
    nothing changed, for the reasons of `pending`, if a file fails, if another role owns something of our names, or if
    locks held by others do not go away within `patience_s`; `DatabaseError` if the connection is lost, when it is worth
    trying again.
    """
    give_up = time.monotonic() + patience_s
    told = ""
    while True:
        try:
            return _migrate_now(conn, on_step)
        except _Hindered as hindrance:
            reason = str(hindrance)
        except psycopg.Error as error:
            if conn.closed:
                raise DatabaseError(f"the connection was lost while migrating: {error}") from error
            raise MigrationError(f"the schema was not brought up to date: {_why(error)}") from error
        if time.monotonic() > give_up:
            raise MigrationError(f"gave up after {patience_s:g} s, nothing was changed: {reason}")
        if reason != told:
            on_step(f"waiting: {reason}")
            on_wait(reason)
            told = reason
        time.sleep(POLL_S * random.uniform(0.5, 1.5))


def _why(error: psycopg.Error) -> str:
    """Return why the schema could not be looked at or changed, and for a right what gives it."""
    words = words_of(error)
    if detail := error.diag.message_detail:
        words += f" ({detail})"
    if not isinstance(error, psycopg.errors.InsufficientPrivilege):
        return words
    if "_ayb_job" in words:
        return f"{words}; as the owner of the tables, run: ayb-jobs migrate; ayb-jobs grant ROLE --daemon"
    if "for schema " in words:
        schema = words.rpartition(" ")[2]
        return f"{words}; migrate as a role that may make tables there: GRANT USAGE, CREATE ON SCHEMA {schema} TO ROLE"
    return words


def make_functions(conn: Connection) -> None:
    """Make the functions that are called by SQL if the migrations that make them could not; a notice says why."""
    schema = surroundings_of(conn).schema
    if not schema_status(conn).is_current or has_functions(conn, schema):
        return
    texts = [migration.sql.decode() for migration in shipped_migrations() if migration.name.endswith("_functions")]
    with conn.transaction():
        _refuse_anothers(conn, _kept_to_ourselves(conn))
        for text in texts:
            conn.execute(qualified(text, schema).encode(), prepare=False)


class _Hindered(Exception):
    """Someone else is at it."""


TRY_LOCK = """
    SELECT pg_catalog.pg_try_advisory_xact_lock(
        pg_catalog.hashtextextended('_ayb_jobs_migrations'::pg_catalog.text, 0::pg_catalog.int8)
    )
"""

# An index over a large table may take longer than any statement is otherwise allowed to. A lock that is waited for
# makes all later sessions wait as well, so that wait is cut short, and tried again.
GENEROUS_TIME_SHORT_LOCKS = """
    SELECT pg_catalog.set_config(name, CASE WHEN name = 'lock_timeout'::text THEN '2s'::text ELSE '0'::text END, true)
    FROM pg_catalog.pg_settings
    WHERE name = ANY (ARRAY['lock_timeout', 'statement_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout'])
"""

CREATE_MIGRATIONS_TABLE = """
    CREATE TABLE IF NOT EXISTS _ayb_jobs_migrations (
        version int PRIMARY KEY,
        name text NOT NULL,
        checksum text NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT now()
    )
"""

RECORD_MIGRATION = "INSERT INTO _ayb_jobs_migrations (version, name, checksum) VALUES (%s, %s, %s)"


def _migrate_now(conn: Connection, on_step: OnStep) -> Applied:
    """Apply what is pending in one transaction; raises `_Hindered` if others are in the way."""
    if conn.info.parameter_status("is_superuser") == "on":  # whose rights are worth a trap
        _refuse_anothers(conn, surroundings_of(conn).schema)
    if not pending(conn):
        return Applied(migrations=[], notices=[])
    with _collected_notices(conn) as notices, _short_of_locks(), conn.transaction():
        if not one_row(conn.execute(TRY_LOCK))[0]:
            raise _Hindered("another process is migrating")
        todo = pending(conn)  # read again: under the lock nobody else writes
        conn.execute(GENEROUS_TIME_SHORT_LOCKS)
        schema = _kept_to_ourselves(conn)
        _refuse_anothers(conn, schema)
        before, updated = list_ours(conn, schema), len(todo) < len(shipped_migrations())
        conn.execute(qualified(CREATE_MIGRATIONS_TABLE, schema).encode())
        for migration in todo:
            on_step(f"applying {migration.name}")
            _apply(conn, migration, schema)
        settle_rights(conn, schema, before=before, updated=updated)
    return Applied(migrations=todo, notices=notices)


SET_PATH = "SELECT pg_catalog.set_config('search_path', %(path)s, true)"


def _kept_to_ourselves(conn: Connection) -> str | None:
    """Have no other role's objects get into what is made in this transaction; return the schema for all of it."""
    schema, path = surroundings_of(conn)
    if schema is None and path == "pg_temp":
        raise MigrationError(
            "no schema of the search path exists in which the tables can be made; nothing was changed: "
            "CREATE SCHEMA, or ALTER DATABASE … SET search_path"
        )
    conn.execute(SET_PATH, {"path": path})
    return schema


# All that bears our names, and belongs to somebody who could use it to run code as us: neither ourselves nor a role
# that we belong to, no superuser, and not the owner of the database.
FIND_ANOTHERS = """
    WITH ours AS (
        SELECT relnamespace::regnamespace::text AS place, relname::text AS name, relowner AS owner
        FROM pg_class
        WHERE relnamespace = (SELECT to_regnamespace(%(schema)s::text)) AND relname::text ^@ '_ayb_job'::text AND relkind <> 'i'
        UNION ALL
        SELECT pronamespace::regnamespace::text, proname::text || '()'::text, proowner
        FROM pg_proc
        WHERE pronamespace = (SELECT to_regnamespace(%(schema)s::text)) AND proname::text ^@ '_ayb_job'::text
            OR pronamespace = (SELECT to_regnamespace(%(functions)s::text)) AND proname::text ^@ 'ayb_jobs_'::text
    )
    SELECT ours.place, ours.name, owner.rolname::text
    FROM ours
    JOIN pg_roles AS owner ON owner.oid = ours.owner
    JOIN pg_roles AS we ON we.rolname = current_user
    WHERE NOT owner.rolsuper AND owner.oid <> we.oid
        AND owner.oid <> (SELECT datdba FROM pg_database WHERE datname = current_database())
        AND (we.rolsuper OR NOT pg_has_role(we.oid, owner.oid, 'MEMBER'::text))
    ORDER BY 1
    LIMIT 1
"""


def _refuse_anothers(conn: Connection, schema: str | None) -> None:
    found = conn.execute(FIND_ANOTHERS, {"schema": schema, "functions": functions_schema(schema)}).fetchone()
    if found is not None:
        place, name, owner = found
        raise MigrationError(
            f"{place}.{name} belongs to the role {owner}, who could run code as you by it: "
            f"migrate as {owner} if it is to be used, else drop it; nothing was changed"
        )


@contextmanager
def _short_of_locks() -> Iterator[None]:
    try:
        yield
    except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
        raise _Hindered(f"a lock is held by another session ({error.diag.message_primary})") from error


def _apply(conn: Connection, migration: Migration, schema: str | None) -> None:
    try:
        conn.execute(qualified(migration.sql.decode(), schema).encode(), prepare=False)
    except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
        raise
    except psycopg.Error as error:
        if conn.closed:
            raise
        raise MigrationError(f"{migration.name} failed, nothing was changed: {error}") from error
    record = qualified(RECORD_MIGRATION, schema).encode()
    conn.execute(record, (migration.version, migration.name, migration.checksum))


# Reading `pg_class` has the session hear first what others have committed since its transaction began; by itself
# `to_regclass` may not know yet of a table that was made before our lock was free.
HAS_MIGRATIONS_TABLE = """
    SELECT EXISTS (
        SELECT FROM pg_catalog.pg_class
        WHERE oid = pg_catalog.to_regclass('_ayb_jobs_migrations')::pg_catalog.oid
    )
"""
LIST_APPLIED = "SELECT version, checksum FROM _ayb_jobs_migrations"


def _applied_checksums(conn: Connection) -> dict[int, str]:
    if not one_row(conn.execute(HAS_MIGRATIONS_TABLE))[0]:
        return {}
    return dict(conn.execute(LIST_APPLIED).fetchall())


def _refuse_newer_schema(known: Sequence[Migration], applied: dict[int, str]) -> None:
    newest = max(migration.version for migration in known)
    if max(applied, default=0) > newest:
        raise MigrationError(
            f"the database's schema is version {max(applied)}, and this ayb-jobs knows versions up to {newest}: "
            "install a newer ayb-jobs; nothing was changed"
        )


def _refuse_changed_files(known: Sequence[Migration], applied: dict[int, str]) -> None:
    for migration in known:
        if applied.get(migration.version, migration.checksum) != migration.checksum:
            raise MigrationError(
                f"{migration.name} was applied to this database with another text than it has now: "
                "put the file back as it was, and make the change in a new one; nothing was changed"
            )


@contextmanager
def _collected_notices(conn: Connection) -> Iterator[list[str]]:
    notices: list[str] = []
    collect = partial(_collect, notices)
    conn.add_notice_handler(collect)
    try:
        yield notices
    finally:
        conn.remove_notice_handler(collect)


def _collect(notices: list[str], notice: Diagnostic) -> None:
    if notice.sqlstate == RAISED_BY_A_FILE and notice.message_primary:
        notices.append(notice.message_primary)
