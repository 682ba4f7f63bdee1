"""Where a torture run may take place: on a database that holds nothing of anybody's, and that it leaves as it was."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import LiteralString

from psycopg import sql

from ayb_jobs.errors import Conflict
from ayb_jobs.lab.torture import event_log
from ayb_jobs.lab.torture.retrying import RetryingConnection
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.drift import made_columns
from ayb_jobs.storage.migrate import migrate, schema_status

CLEANED_WITHIN_S = 60.0

# A row in any table of ours is somebody's work, or tells of it: whatever a later migration adds, too. Of daemons only a
# living one is.
NOBODYS = {"_ayb_jobs_migrations", "_ayb_job_workers"}
LIVING_DAEMONS = "SELECT count(*) FROM _ayb_job_workers WHERE heartbeat_at > now() - interval '1 minute'"
HAS_TABLES = "SELECT to_regclass('_ayb_jobs') IS NOT NULL OR to_regclass('_ayb_job_schedules') IS NOT NULL"

REMOVE_DAEMONS = "DELETE FROM _ayb_job_workers WHERE 'torture_work' = ANY (types)"
# All that a run's own `migrate` made, and nothing else: the database had no table of ours before.
REMOVE_SCHEMA = r"""
    DO $$
    DECLARE
        found record;
    BEGIN
        DROP VIEW IF EXISTS job_execution;
        FOR found IN
            SELECT CASE relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END AS kind, oid::regclass::text AS name
            FROM pg_class
            WHERE relname ^@ '_ayb_job' AND relkind IN ('r', 'v') AND relnamespace = current_schema()::regnamespace
            ORDER BY relkind DESC
        LOOP
            EXECUTE format('DROP %s IF EXISTS %s CASCADE', found.kind, found.name);
        END LOOP;
        FOR found IN
            SELECT oid::regprocedure::text AS name
            FROM pg_proc
            WHERE proname ^@ '_ayb_job' AND pronamespace = current_schema()::regnamespace
        LOOP
            EXECUTE format('DROP FUNCTION IF EXISTS %s', found.name);
        END LOOP;
    END
    $$
"""


@contextmanager
def prepared(url: str) -> Iterator[None]:
    """Make a database ready for a run, which takes place in the block, and leave it as it was.

    Raises `Conflict`, with nothing changed, if the database is in use or was in use.
    """
    with closing(connect(url, name="torture")) as conn:
        had_tables = _refuse_somebodys(conn)
        migrate(conn)
        event_log.install(conn)
    try:
        yield
    finally:
        with closing(RetryingConnection(url, give_up_s=CLEANED_WITHIN_S)) as database:
            database.ask(event_log.uninstall)
            database.ask(_remove_rows if had_tables else lambda conn: conn.execute(REMOVE_SCHEMA))


def _refuse_somebodys(conn: Connection) -> bool:
    """Refuse a database that anybody uses; tell whether the tables are there already."""
    row = conn.execute(HAS_TABLES).fetchone()
    if not row or not row[0]:
        return False
    if not schema_status(conn).is_current:
        raise Conflict(
            "the database has job tables of another version; torture needs an empty database, or a migrated one"
        )
    counts = {_words(table): _number(conn, _counting(table)) for table in _somebodys()}
    counts["living daemons"] = _number(conn, LIVING_DAEMONS)
    found = [f"{count} {what}" for what, count in counts.items() if count]
    if found:
        raise Conflict(f"the database holds {', '.join(found)}; torture needs one that nobody uses, with none of them")
    return True


def _somebodys() -> list[str]:
    """Return our tables in which every row is a run's own, since there was none before it; jobs first."""
    return sorted({table for table, _ in made_columns()} - NOBODYS, key=lambda table: (table != "_ayb_jobs", table))


def _remove_rows(conn: Connection) -> None:
    for table in _somebodys():
        conn.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))
    conn.execute(REMOVE_DAEMONS)


def _counting(table: str) -> sql.Composed:
    return sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))


def _words(table: str) -> str:
    """Return what a table's rows are, in words: `batch callbacks` of `_ayb_job_batch_callbacks`."""
    return "jobs" if table == "_ayb_jobs" else table.removeprefix("_ayb_job_").replace("_", " ")


def _number(conn: Connection, statement: LiteralString | sql.Composed) -> int:
    row = conn.execute(statement).fetchone()
    return int(row[0]) if row else 0
