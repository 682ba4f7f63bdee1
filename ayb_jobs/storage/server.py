"""What can be asked about the server, our tables, and who holds them up.

What a role may not see is missing or null: the statements of other roles are for members of pg_read_all_stats alone.
"""

from datetime import datetime
from typing import NamedTuple

from psycopg.rows import class_row

from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.drift import OUR_SCHEMA
from ayb_jobs.storage.rows import one_row


def sql_text(conn: Connection, text: str) -> str:
    """Return a text as a statement has it, in which it can do nothing of its own."""
    return str(one_row(conn.execute("SELECT quote_literal(%s::text)", (text,)))[0])


def sql_name(conn: Connection, name: str) -> str:
    """Return a name as a statement has it, in quotes if it needs them."""
    return str(one_row(conn.execute("SELECT quote_ident(%s::text)", (name,)))[0])


class Holder(NamedTuple):
    """What keeps old versions of rows from being removed: its kind, name or process id, age, and statement."""

    kind: str
    name: str
    age_s: float | None
    statement: str | None


LIST_HOLDERS = """
    SELECT 'session' AS kind, pid::text AS name, extract(epoch FROM now() - xact_start)::float8 AS age_s, left(query, 200) AS statement
    FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
        AND xact_start < now() - make_interval(secs => %(since_s)s)
    UNION ALL
    SELECT 'prepared transaction', gid, extract(epoch FROM now() - prepared)::float8, NULL
    FROM pg_prepared_xacts
    WHERE database = current_database() AND prepared < now() - make_interval(secs => %(since_s)s)
    UNION ALL
    SELECT 'replication slot', slot_name::text, NULL, NULL
    FROM pg_replication_slots
    WHERE NOT active AND (xmin IS NOT NULL OR catalog_xmin IS NOT NULL) AND (database IS NULL OR database = current_database())
    ORDER BY age_s DESC NULLS LAST
    LIMIT 10
"""


def list_holders(conn: Connection, *, since_s: float) -> list[Holder]:
    """Return what has kept old versions of rows for so long, the longest first."""
    with conn.cursor(row_factory=class_row(Holder)) as cursor:
        return cursor.execute(LIST_HOLDERS, {"since_s": since_s}).fetchall()


class LockHolder(NamedTuple):
    """A session that sits in a transaction, does nothing, and holds locks on our tables."""

    pid: int
    table: str
    idle_s: float


LIST_IDLE_LOCKS = """
    SELECT activity.pid, min(relation.relname)::text AS table, extract(epoch FROM now() - min(activity.state_change))::float8 AS idle_s
    FROM pg_stat_activity AS activity
    JOIN pg_locks AS lock ON lock.pid = activity.pid AND lock.locktype = 'relation' AND lock.granted
    JOIN pg_class AS relation ON relation.oid = lock.relation
    WHERE activity.datname = current_database() AND activity.state LIKE 'idle in transaction%%'
        AND activity.state_change < now() - make_interval(secs => %(since_s)s)
        AND lock.mode IN ('RowShareLock', 'RowExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
        AND left(relation.relname, 8) = '_ayb_job' AND relation.relkind IN ('r', 'p')
    GROUP BY activity.pid
    LIMIT 10
"""


def list_idle_locks(conn: Connection, *, since_s: float) -> list[LockHolder]:
    """Return the sessions that have held locks on our tables for so long and do nothing meanwhile."""
    with conn.cursor(row_factory=class_row(LockHolder)) as cursor:
        return cursor.execute(LIST_IDLE_LOCKS, {"since_s": since_s}).fetchall()


CAN_SEE_OTHERS = """
    SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') OR (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
"""


def can_see_others(conn: Connection) -> bool:
    """Tell whether the role is shown what other roles' sessions do."""
    return bool(one_row(conn.execute(CAN_SEE_OTHERS))[0])


class TableHealth(NamedTuple):
    """A table of ours: its live rows, the dead versions beside them, and how it was last vacuumed and analyzed."""

    name: str
    live: int
    dead: int
    vacuumed_s: float | None
    was_analyzed: bool
    autovacuum_off: bool


LIST_TABLES = """
    SELECT stats.relname::text AS name, stats.n_live_tup AS live, stats.n_dead_tup AS dead,
        extract(epoch FROM now() - greatest(stats.last_vacuum, stats.last_autovacuum))::float8 AS vacuumed_s,
        coalesce(stats.last_analyze, stats.last_autoanalyze) IS NOT NULL OR relation.reltuples > 0 AS was_analyzed,
        coalesce('autovacuum_enabled=false' = ANY (relation.reloptions) OR 'autovacuum_enabled=off' = ANY (relation.reloptions), false)
            OR NOT current_setting('autovacuum')::boolean AS autovacuum_off
    FROM pg_stat_user_tables AS stats JOIN pg_class AS relation ON relation.oid = stats.relid
    WHERE left(stats.relname, 8) = '_ayb_job' AND stats.schemaname = ANY (current_schemas(false))
    ORDER BY stats.relname
"""


def list_tables(conn: Connection) -> list[TableHealth]:
    """Return how our tables are kept."""
    with conn.cursor(row_factory=class_row(TableHealth)) as cursor:
        return cursor.execute(LIST_TABLES).fetchall()


LIST_INVALID = f"""
    SELECT format('%I.%I', space.nspname, relation.relname)
    FROM pg_index AS entry
    JOIN pg_class AS relation ON relation.oid = entry.indexrelid
    JOIN pg_class AS owner ON owner.oid = entry.indrelid
    JOIN pg_namespace AS space ON space.oid = relation.relnamespace
    WHERE NOT entry.indisvalid AND owner.relnamespace = {OUR_SCHEMA}
        AND left(owner.relname, 8) = '_ayb_job'
    ORDER BY 1
"""


def list_invalid_indexes(conn: Connection) -> list[str]:
    """Return the indexes of our tables that the server does not use, as a statement names them."""
    return [name for (name,) in conn.execute(LIST_INVALID)]


class ServerState(NamedTuple):
    """How the server is set and how full it is."""

    fsync: bool
    synchronous_commit: bool
    connections: int
    max_connections: int
    queue_used: float
    clock: float


ASK_SERVER = """
    SELECT current_setting('fsync')::boolean AS fsync,
        current_setting('synchronous_commit') NOT IN ('off', 'false', 'no', '0') AS synchronous_commit,
        (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS connections,
        current_setting('max_connections')::int AS max_connections,
        pg_notification_queue_usage() AS queue_used,
        extract(epoch FROM clock_timestamp())::float8 AS clock
"""


def ask_server(conn: Connection) -> ServerState:
    """Return how the server is set and how full it is."""
    with conn.cursor(row_factory=class_row(ServerState)) as cursor:
        return one_row(cursor.execute(ASK_SERVER))


class DaemonClock(NamedTuple):
    """A live daemon, and how far its clock is ahead of the database's."""

    id: str
    ahead_s: float


LIST_CLOCKS = """
    SELECT id, clock_ahead_s AS ahead_s
    FROM _ayb_job_workers
    WHERE heartbeat_at BETWEEN now() - interval '1 minute' AND now() + interval '1 minute' AND abs(clock_ahead_s) > %(skew_s)s
    ORDER BY abs(clock_ahead_s) DESC
    LIMIT 10
"""


def list_clocks(conn: Connection, *, skew_s: float) -> list[DaemonClock]:
    """Return the live daemons whose clocks differ from the database's by more than so much."""
    with conn.cursor(row_factory=class_row(DaemonClock)) as cursor:
        return cursor.execute(LIST_CLOCKS, {"skew_s": skew_s}).fetchall()


class ZoneAt(NamedTuple):
    """How far a zone is ahead of UTC at an instant, as the server knows; None if it does not know the zone."""

    zone: str
    at: datetime
    offset_s: float | None


LIST_ZONE_OFFSETS = """
    SELECT zone, at, CASE
        WHEN EXISTS (SELECT FROM pg_timezone_names WHERE lower(name) = lower(zone))
        THEN extract(epoch FROM (at AT TIME ZONE zone) - (at AT TIME ZONE 'UTC'))::float8
    END AS offset_s
    FROM (SELECT DISTINCT timezone AS zone FROM _ayb_job_schedules WHERE enabled AND timezone <> '' LIMIT 50) AS zones,
        generate_series(date_trunc('day', now()), now() + interval '400 days', interval '20 days') AS at
    ORDER BY zone, at
"""


def list_zone_offsets(conn: Connection) -> list[ZoneAt]:
    """Return the offsets of the zones of schedules over a year, each 20 days."""
    with conn.cursor(row_factory=class_row(ZoneAt)) as cursor:
        return cursor.execute(LIST_ZONE_OFFSETS).fetchall()


def vacuum(conn: Connection, table: str) -> None:
    """Vacuum and analyze one of our tables; outside of a transaction. `table` is as `list_tables` names it."""
    conn.execute(f"VACUUM (ANALYZE) {sql_name(conn, table)}".encode())


def reindex(conn: Connection, index: str) -> None:
    """Build an index anew that is not valid, while all go on; `index` is as `list_invalid_indexes` names it."""
    conn.execute(f"REINDEX INDEX CONCURRENTLY {index}".encode())
