"""What `migrate` would do to a database, and what its rows will mean to a daemon; reads only."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ayb_jobs.errors import InvalidInput
from ayb_jobs.model.job import JobState
from ayb_jobs.model.schedules.cron import read_cron
from ayb_jobs.storage.adopted_shape import find_oddities
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.execution_view import VIEW
from ayb_jobs.storage.migrate import CREATE_MIGRATIONS_TABLE, pending
from ayb_jobs.storage.migrations import Migration
from ayb_jobs.storage.own import surroundings_of
from ayb_jobs.storage.rights import is_aybs
from ayb_jobs.storage.rows import named
from ayb_jobs.storage.shape import places_of

# How fast a disk that is no good one is read while an index is built, and how long a change of a table's columns takes.
BYTES_PER_S = 100_000_000
LEAST_S = 1.0

MADE = re.compile(
    r"\bCREATE\s+(?:OR REPLACE\s+)?(?:UNIQUE\s+)?(TABLE|INDEX|VIEW|SEQUENCE|FUNCTION)\s+(?:IF NOT EXISTS\s+)?(?:TABLES\.|PLACE\.)?(\w+)(?:\s+ON\s+(\w+))?"
)
ALTERED = re.compile(r"\bALTER\s+TABLE\s+(_ayb\w+)([^;]*)")
ADDED = re.compile(r"\bADD COLUMN\s+(?:IF NOT EXISTS\s+)?(\w+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Locked:
    """A table that is there already, and how long nobody else can use it, at the most."""

    table: str
    rows: int
    size: int
    indexes: int
    columns: Sequence[str]

    @property
    def seconds(self) -> float:
        """How long the lock lasts, reckoned by the table's size."""
        return LEAST_S + self.indexes * self.size / BYTES_PER_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Preflight:
    """What would be done: the migrations, what they make (by kind), and which tables they lock.

    `odd` are the ways in which tables that are there already are not as AYB makes them.
    """

    migrations: Sequence[Migration]
    made: Mapping[str, Sequence[str]]
    locked: Sequence[Locked]
    odd: Sequence[str]


RELATION = """
    SELECT greatest(reltuples, 0)::bigint AS rows, pg_table_size(oid) AS size
    FROM pg_class
    WHERE oid = coalesce(to_regclass(%(schema)s::text || '.'::text || %(name)s::text), to_regclass(%(name)s::text))
"""


FUNCTIONS = """
    SELECT proname::text FROM pg_proc WHERE pronamespace IN (to_regnamespace(%(tables)s), to_regnamespace(%(functions)s))
"""
HAS_SCHEMA = "SELECT to_regnamespace(%(name)s) IS NOT NULL"


def preflight(conn: Connection) -> Preflight:
    """Return what `migrate` would do. Raises `MigrationError` for the reasons of `pending`."""
    todo = pending(conn)
    sources = [CREATE_MIGRATIONS_TABLE, *(migration.sql.decode() for migration in todo)] if todo else []
    text = "\n".join(re.sub(r"--[^\n]*", "", source) for source in sources)
    schema = surroundings_of(conn).schema
    places = places_of(conn, schema or "public")
    there = {name for (name,) in conn.execute(FUNCTIONS, places._asdict())}
    if is_aybs(conn, schema):
        there.add(VIEW)  # a later migration takes it away there
    made: dict[str, list[str]] = {}
    indexes: dict[str, int] = {}
    if "CREATE SCHEMA" in text and conn.execute(HAS_SCHEMA, {"name": places.functions}).fetchone() == (False,):
        made["schema"] = [places.functions]
    for kind, name, table in MADE.findall(text):
        known = made.setdefault(kind.lower(), [])
        if name not in known and name not in there and _size_of(conn, schema, name) is None:
            known.append(name)
            if table:
                indexes[table] = indexes.get(table, 0) + 1
    columns: dict[str, list[str]] = {}
    for table, changes in ALTERED.findall(text):
        columns.setdefault(table, []).extend(ADDED.findall(changes))
    relations = {name for kind, name, _ in MADE.findall(text) if kind != "FUNCTION"} - {VIEW}
    odd = find_oddities(conn, schema, columns, relations) if any(each.version == 1 for each in todo) else []
    return Preflight(migrations=todo, made=made, locked=list(_locked(conn, schema, indexes, columns)), odd=odd)


def _locked(
    conn: Connection, schema: str | None, indexes: Mapping[str, int], columns: Mapping[str, Sequence[str]]
) -> Iterator[Locked]:
    for table in sorted({*indexes, *columns}):
        if found := _size_of(conn, schema, table):
            rows, size = found
            yield Locked(
                table=table, rows=rows, size=size, indexes=indexes.get(table, 0), columns=columns.get(table, ())
            )


def _size_of(conn: Connection, schema: str | None, name: str) -> tuple[int, int] | None:
    row = named(conn).execute(RELATION, {"schema": schema, "name": name}).fetchone()
    return None if row is None else (row.rows, row.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What is in AYB's two tables, or ours, as far as it will mean something to a daemon that starts.

    Counts by job type: jobs that wait, of them due ones, and jobs that run under a lease that lives or is over.
    `old` counts jobs that retention would remove, by state; `schedules` and `unread` are the enabled ones: their
    job types, and of those whose timing cannot be read the reasons.
    """

    waiting: Mapping[str, int]
    due: int
    leased: int
    expired: int
    old: Mapping[JobState, int]
    schedules: Mapping[str, str]
    unread: Mapping[str, str]

    def unknown(self, known: Collection[str]) -> dict[str, int]:
        """Return the job types that are not among those `known`, each with how many jobs of it wait."""
        types = {*self.waiting, *self.schedules.values()}
        return {name: self.waiting.get(name, 0) for name in sorted(types) if name not in known}


HAS_TABLES = "SELECT to_regclass('_ayb_jobs') IS NOT NULL, to_regclass('_ayb_job_schedules') IS NOT NULL"
COUNT_WAITING = """
    SELECT type::text, count(*) FILTER (WHERE state = 'queued') AS waiting,
        count(*) FILTER (WHERE state = 'queued' AND run_at <= now()) AS due,
        count(*) FILTER (WHERE state = 'running' AND lease_until > now()) AS leased,
        count(*) FILTER (WHERE state = 'running' AND (lease_until IS NULL OR lease_until <= now())) AS expired
    FROM _ayb_jobs
    WHERE state IN ('queued', 'running')
    GROUP BY type
    ORDER BY type
"""
COUNT_OLD = """
    SELECT count(*)
    FROM _ayb_jobs
    WHERE state = %(state)s AND coalesce(completed_at, canceled_at, updated_at) < now() - %(hours)s * interval '1 hour'
"""
LIST_SCHEDULES = (
    "SELECT name::text, job_type::text, cron_expr::text, timezone::text, enabled FROM _ayb_job_schedules ORDER BY name"
)


def rows_of(conn: Connection, keep_h: Mapping[JobState, int]) -> Rows:
    """Look at the rows; `keep_h` is for how many hours finished jobs are kept, by state, below zero for ever."""
    has_jobs, has_schedules = conn.execute(HAS_TABLES).fetchone() or (False, False)
    counts = named(conn).execute(COUNT_WAITING).fetchall() if has_jobs else []
    schedules = named(conn).execute(LIST_SCHEDULES).fetchall() if has_schedules else []
    return Rows(
        waiting={row.type: row.waiting for row in counts if row.waiting},
        due=sum(row.due for row in counts),
        leased=sum(row.leased for row in counts),
        expired=sum(row.expired for row in counts),
        old=_old(conn, keep_h) if has_jobs else {},
        schedules={row.name: row.job_type for row in schedules if row.enabled},
        unread={
            row.name: fault
            for row in schedules
            if row.enabled and (fault := _timing_fault(row.cron_expr, row.timezone))
        },
    )


def _old(conn: Connection, keep_h: Mapping[JobState, int]) -> dict[JobState, int]:
    found: dict[JobState, int] = {}
    for state, hours in keep_h.items():
        row = conn.execute(COUNT_OLD, {"state": str(state), "hours": hours}).fetchone() if hours >= 0 else None
        if row and row[0]:
            found[state] = row[0]
    return found


def _timing_fault(cron: str, timezone: str) -> str | None:
    try:
        read_cron(cron, timezone)
    except InvalidInput as error:
        return str(error)
    return None
