"""Whether somebody brings the schema up to date just now, and whom that waits for."""

import time
from typing import NamedTuple

from psycopg.rows import class_row

from ayb_jobs.storage.database import Connection

# A migration that waits tries again and again, and holds no lock between two tries, for half a second at most.
LOOKS = 6
APART_S = 0.1


class Blocker(NamedTuple):
    """Who keeps a migration waiting; no `pid` if nobody does, 0 for a prepared transaction.

    `open_s` tells for how long its transaction has been open; None if the asking role may not see it.
    """

    pid: int | None
    application: str
    open_s: float | None


# Whoever migrates holds this lock.
FIND_MIGRATION = """
    SELECT blocking.pid, coalesce(blocker.application_name, '') AS application,
        extract(epoch FROM clock_timestamp() - blocker.xact_start)::float8 AS open_s
    FROM pg_catalog.pg_locks AS migrating
    LEFT JOIN LATERAL unnest(pg_blocking_pids(migrating.pid)) AS blocking (pid) ON true
    LEFT JOIN pg_catalog.pg_stat_activity AS blocker ON blocker.pid = blocking.pid
    WHERE migrating.locktype = 'advisory' AND migrating.granted AND migrating.objsubid = 1
        AND migrating.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
        AND (migrating.classid::bigint << 32) | migrating.objid::bigint = hashtextextended('_ayb_jobs_migrations', 0)
    ORDER BY blocker.xact_start, blocking.pid
    LIMIT 1
"""


def find_migration(conn: Connection) -> Blocker | None:
    """Return who keeps the migration waiting that is under way, or that nobody does; None if none is under way."""
    found = None
    for left in reversed(range(LOOKS)):
        with conn.cursor(row_factory=class_row(Blocker)) as cursor:
            found = cursor.execute(FIND_MIGRATION).fetchone() or found
        if found is not None and found.pid is not None:
            break
        if left:
            time.sleep(APART_S)
    return found
