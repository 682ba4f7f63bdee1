"""What the migrations make, and what of it is missing from a database: columns and indexes, read from the files."""

import re
from collections.abc import Mapping
from functools import cache

from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.migrations import shipped_migrations

# Where our tables are, as an oid: what bears a name of ours elsewhere is another installation's, or nobody's.
OUR_SCHEMA = "(SELECT relnamespace FROM pg_class WHERE oid = to_regclass('_ayb_jobs'))"
INDEX = re.compile(r"CREATE (UNIQUE )?INDEX (?:IF NOT EXISTS )?(\w+) ON (.*?);", re.DOTALL)
DROPPED_INDEX = re.compile(r"DROP INDEX (?:IF EXISTS )?(\w+)")
TABLE = re.compile(r"CREATE TABLE (?:IF NOT EXISTS )?(\w+) \(\n(.*?)\n\)", re.DOTALL)
COLUMN = re.compile(r"^    (?!PRIMARY|UNIQUE|CHECK|FOREIGN|CONSTRAINT)([a-z_]\w*) ", re.MULTILINE)
CHANGE = re.compile(r"ALTER TABLE (\w+)\s(.*?);", re.DOTALL)
ADDED = re.compile(r"ADD COLUMN (?:IF NOT EXISTS )?(\w+)")
DROPPED = re.compile(r"DROP COLUMN (?:IF EXISTS )?(\w+)")
SEQUENCE_OR_FUNCTION = re.compile(r"CREATE (?:OR REPLACE )?(?:SEQUENCE|FUNCTION) (?:TABLES\.)?(_ayb_job\w+)")
COMMENT = re.compile(r"^--.*$", re.MULTILINE)


@cache
def made_indexes() -> Mapping[str, str]:
    """Return the indexes that the migrations make, each with a statement that makes it while all go on."""
    found: dict[str, str] = {}
    for text in _texts():
        for unique, name, rest in INDEX.findall(text):
            found[name] = f"CREATE {unique}INDEX CONCURRENTLY IF NOT EXISTS {name} ON {rest}"
        for name in DROPPED_INDEX.findall(text):
            found.pop(name, None)
    return found


@cache
def made_columns() -> frozenset[tuple[str, str]]:
    """Return the columns that the migrations make, with their tables."""
    found: set[tuple[str, str]] = set()
    for text in _texts():
        found |= {(table, column) for table, body in TABLE.findall(text) for column in COLUMN.findall(body)}
        for table, body in CHANGE.findall(text):
            found |= {(table, column) for column in ADDED.findall(body)}
            found -= {(table, column) for column in DROPPED.findall(body)}
    return frozenset(found)


@cache
def made_names() -> frozenset[str]:
    """Return the names of the tables, the sequence and the functions that the migrations make."""
    named = {name for text in _texts() for name in SEQUENCE_OR_FUNCTION.findall(text)}
    return frozenset({table for table, _ in made_columns()} | named)


def _texts() -> list[str]:
    return [COMMENT.sub("", migration.sql.decode()) for migration in shipped_migrations()]


LIST_MISSING_INDEXES = f"""
    SELECT name
    FROM unnest(%(names)s::text[]) AS name
    WHERE NOT EXISTS (
        SELECT FROM pg_class
        WHERE relkind = 'i' AND relname = name AND relnamespace = {OUR_SCHEMA}
    )
    ORDER BY name
"""


def list_missing_indexes(conn: Connection) -> list[str]:
    """Return the indexes that the migrations make and that are not there."""
    return [name for (name,) in conn.execute(LIST_MISSING_INDEXES, {"names": list(made_indexes())})]


LIST_MISSING_COLUMNS = f"""
    SELECT format('%%s.%%s', made.relation, made.name)
    FROM unnest(%(tables)s::text[], %(columns)s::text[]) AS made (relation, name)
    WHERE NOT EXISTS (
        SELECT FROM pg_class AS relation JOIN pg_attribute AS attribute ON attribute.attrelid = relation.oid
        WHERE relation.relnamespace = {OUR_SCHEMA}
            AND relation.relname = made.relation AND relation.relkind IN ('r', 'p') AND attname = made.name AND NOT attisdropped
    )
    ORDER BY 1
"""


def list_missing_columns(conn: Connection) -> list[str]:
    """Return the columns that the migrations make and that are not there, with their tables."""
    made = sorted(made_columns())
    values = {"tables": [table for table, _ in made], "columns": [column for _, column in made]}
    return [name for (name,) in conn.execute(LIST_MISSING_COLUMNS, values)]


def make_index(conn: Connection, name: str) -> None:
    """Make an index that is missing, while all go on; outside of a transaction."""
    conn.execute(made_indexes()[name].encode())
