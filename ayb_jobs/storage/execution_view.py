"""Barycenter's execution log as a view, on a database that is also AYB's.

Elsewhere a migration has made it, and it stays as it is. AYB serves every view whose name does not begin with `_ayb_`
to its end users, so that there it is made for those alone who asked for the pack `barycenter`.
"""

from contextlib import suppress

from psycopg.errors import InsufficientPrivilege

from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.own import surroundings_of
from ayb_jobs.storage.rights import is_aybs, list_ours, settle_rights

VIEW = "job_execution"
IS_FREE = "SELECT to_regclass('job_execution') IS NULL"
CREATE_VIEW = """
    CREATE VIEW job_execution AS
        SELECT id, job_type AS job_name, started_at, ended_at AS completed_at,
               outcome IN ('completed', 'snoozed') AS success, error AS error_message, records_processed
        FROM _ayb_job_executions
        UNION ALL
        SELECT execution_id, type, last_run_at, NULL, NULL, NULL, NULL
        FROM _ayb_jobs
        WHERE state = 'running'
"""
DROP_VIEW = "DROP VIEW job_execution"


def keep_execution_view(conn: Connection, *, wanted: bool) -> None:
    """Make the view beside AYB's tables if it is wanted, else drop it.

    A relation of that name that is not ours stays as it is. A role that may not do so leaves it to `ayb-jobs migrate`.
    """
    schema = surroundings_of(conn).schema
    if not is_aybs(conn, schema):
        return
    ours = list_ours(conn, schema)
    with suppress(InsufficientPrivilege), conn.transaction():
        if VIEW in ours and not wanted:
            conn.execute(DROP_VIEW)
        elif wanted and _is_free(conn):
            conn.execute(CREATE_VIEW)
            settle_rights(conn, schema, before=ours, updated=True)


def _is_free(conn: Connection) -> bool:
    row = conn.execute(IS_FREE).fetchone()
    return bool(row and row[0])
