"""Whether tables that are there already have the shape that migrations and the daemon count on."""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.rows import named

_TIMES = ("created_at", "updated_at")
# AYB's two tables, as its own migrations make them.
COLUMNS: Mapping[str, Mapping[str, str]] = {
    "_ayb_jobs": {
        "id": "uuid", "type": "character varying(100)", "payload": "jsonb", "state": "character varying(20)",
        "attempts": "integer", "max_attempts": "integer", "last_error": "text", "worker_id": "character varying(100)",
        "idempotency_key": "character varying(255)", "schedule_id": "uuid",
        **dict.fromkeys(
            (*_TIMES, "run_at", "lease_until", "last_run_at", "completed_at", "canceled_at"), "timestamp with time zone"
        ),
    },
    "_ayb_job_schedules": {
        "id": "uuid", "name": "character varying(100)", "job_type": "character varying(100)", "payload": "jsonb",
        "cron_expr": "character varying(100)", "timezone": "character varying(50)", "enabled": "boolean",
        "max_attempts": "integer",
        **dict.fromkeys((*_TIMES, "next_run_at", "last_run_at"), "timestamp with time zone"),
    },
}  # fmt: skip
AYBS_INDEXES = frozenset({"idx_ayb_jobs_claimable", "idx_ayb_jobs_lease", "idx_ayb_jobs_idempotency"})
_CHARACTERS = re.compile(r"character varying(?:\((\d+)\))?")

LOOK_AT_TABLE = """
    SELECT relkind::text AS kind, relnamespace::regnamespace::text AS schema, row_security_active(oid) AS hides_rows,
        EXISTS (
            SELECT FROM pg_index AS entry JOIN pg_attribute AS part ON part.attrelid = entry.indrelid AND part.attname = 'id'
            WHERE entry.indrelid = pg_class.oid AND entry.indisunique AND entry.indisvalid AND entry.indpred IS NULL
                AND entry.indnkeyatts = 1 AND entry.indkey[0] = part.attnum
        ) AS has_key
    FROM pg_class
    WHERE oid = coalesce(to_regclass(%(schema)s::text || '.'::text || %(table)s::text), to_regclass(%(table)s::text))
"""
LIST_COLUMNS = """
    SELECT attname::text AS name, format_type(atttypid, atttypmod) AS type,
        attnotnull AND NOT atthasdef AND attidentity = '' AS is_needed
    FROM pg_attribute
    WHERE attrelid = coalesce(to_regclass(%(schema)s::text || '.'::text || %(table)s::text), to_regclass(%(table)s::text)) AND attnum > 0 AND NOT attisdropped
    ORDER BY attnum
"""
IS_TAKEN = """
    SELECT coalesce(to_regclass(%(schema)s::text || '.'::text || %(table)s::text), to_regclass(%(table)s::text)) IS NOT NULL
"""
KINDS = {"v": "a view", "m": "a materialized view", "p": "a partitioned table", "f": "a foreign table"}


def find_oddities(
    conn: Connection, schema: str | None, added: Mapping[str, Collection[str]], made: Collection[str]
) -> list[str]:
    """Return in which ways tables that are there are not as AYB makes them, each as a sentence.

    `schema` is where migrations make what they make, which need not be on the connection's path; tables are looked for
    on that path as well. `added` are the columns that migrations add, by table, and `made` the names of tables, views,
    indexes and sequences that they make. For a database that has none of ours yet.
    """
    found: list[str] = []
    schemas: dict[str, str] = {}
    for table, columns in COLUMNS.items():
        row = named(conn).execute(LOOK_AT_TABLE, {"schema": schema, "table": table}).fetchone()
        if row is not None:
            schemas[table] = row.schema
            found += _of_table(table, row)
            there = {row.name: row for row in named(conn).execute(LIST_COLUMNS, {"schema": schema, "table": table})}
            found += _of_columns(table, there, columns, added.get(table, ()))
    if len(set(schemas.values())) > 1:
        where = ", ".join(f"{table} in {schema}" for table, schema in schemas.items())
        found.append(f"the two tables are in two schemas: {where}; both have to be in one")
    found += [
        f"there is something of the name {name} already, which migrate would make; rename or drop it"
        for name in sorted(set(made) - COLUMNS.keys() - AYBS_INDEXES)
        if conn.execute(IS_TAKEN, {"schema": schema, "table": name}).fetchone() == (True,)
    ]
    return found


def _of_table(table: str, row: Any) -> Iterator[str]:
    if row.kind != "r":
        yield f"{table} is {KINDS.get(row.kind, 'no table')}; it has to be a plain table"
    elif not row.has_key:
        yield f"{table} has no primary key of id alone, and no other unique index of it; it needs one"
    if row.hides_rows:
        yield f"row security hides rows of {table} from this role; let its owner migrate, and the daemon see every row"


def _of_columns(
    table: str, there: Mapping[str, Any], columns: Mapping[str, str], added: Collection[str]
) -> Iterator[str]:
    for name, wanted in columns.items():
        if name not in there:
            yield f"{table} has no column {name}; AYB's is {wanted}"
        elif not _does_for(there[name].type, wanted):
            yield f"{table}.{name} is {there[name].type}; it has to be {wanted}, as AYB makes it"
    for name, row in there.items():
        if name in columns:
            continue
        if name in added:
            yield f"{table} has a column {name} already, which migrate would add; rename it"
        elif row.is_needed:
            yield f"{table}.{name} is NOT NULL and has no default; without one no row can be made here"


def _does_for(found: str, wanted: str) -> bool:
    """Tell whether a type holds what the wanted one holds, and is used alike; texts may be longer."""
    longest = _CHARACTERS.fullmatch(wanted)
    given = _CHARACTERS.fullmatch(found)
    if longest is None or (given is None and found != "text"):
        return found == wanted
    return given is None or given[1] is None or int(given[1]) >= int(longest[1] or 0)
