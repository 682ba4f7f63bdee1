"""Connections for our own SQL alone: no name and no operator in it means what another role has made.

Whoever may create objects in a schema of the search path can add an operator that fits our statements better than
PostgreSQL's own, and his function then runs as the daemon's role. So two things are done:

- The path holds only schemas in which no other role may create anything. Triggers of the application still find
  unqualified names in those; PostgreSQL from 15 on lets nobody else create in `public`.
- The names of our tables, functions and sequences are sent with their schema, which need not be on the path then.

Handlers' connections, on which users' SQL runs, keep the path that the database gives them.
"""

import re
from functools import lru_cache
from typing import Any, NamedTuple

import psycopg
from psycopg import pq
from psycopg.rows import TupleRow

# Our names where no schema stands before them. In quotes they are names too, such as of a sequence, if nothing else is
# in the quotes; but for the keys of locks, which are hashed.
NAME = r"(?:_ayb_jobs|_ayb_jobs?_\w+|job_execution)"
OUR_NAMES = re.compile(rf"""(?<![\w."'$])({NAME})\b(?!')""")
OUR_QUOTED_NAMES = re.compile(rf"(?<!hashtextextended\()'({NAME})'")

# Where our tables are, or would be made, and the part of the path that is safe. Trusted with making objects are we
# ourselves, superusers, the owners of the database and of our tables: they can do all that an operator of theirs could.
# It runs on the path as it is found, so that every name in it has its schema and every operator its exact types.
FIND_SURROUNDINGS = """
    WITH ours AS (
        SELECT relowner, relnamespace FROM pg_catalog.pg_class
        WHERE oid = pg_catalog.to_regclass('_ayb_jobs'::pg_catalog.text)::pg_catalog.oid
    ), trusted AS (
        SELECT oid FROM pg_catalog.pg_roles
        WHERE rolsuper OR rolname = current_user OR rolname = 'pg_database_owner'::pg_catalog.name
        UNION ALL SELECT datdba FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()
        UNION ALL SELECT relowner FROM ours
    ), path AS (
        SELECT space.nspname, place.number, NOT EXISTS (
            SELECT FROM pg_catalog.aclexplode(
                coalesce(space.nspacl, pg_catalog.acldefault('n'::pg_catalog."char", space.nspowner))
            ) AS held
            WHERE held.privilege_type = 'CREATE'::pg_catalog.text AND held.grantee <> ALL (ARRAY(SELECT oid FROM trusted))
        ) AS is_safe
        FROM pg_catalog.unnest(pg_catalog.current_schemas(false)) WITH ORDINALITY AS place (name, number)
        JOIN pg_catalog.pg_namespace AS space ON space.nspname = place.name
    )
    SELECT
        pg_catalog.quote_ident(coalesce(
            (SELECT nspname FROM pg_catalog.pg_namespace WHERE oid = (SELECT relnamespace FROM ours)),
            pg_catalog.current_schema()
        )::pg_catalog.text),
        coalesce((
            SELECT pg_catalog.string_agg(
                pg_catalog.quote_ident(nspname::pg_catalog.text), ', '::pg_catalog.text ORDER BY number
            ) || ', '::pg_catalog.text
            FROM path WHERE is_safe
        ), ''::pg_catalog.text) || 'pg_temp'::pg_catalog.text
"""


class Surroundings(NamedTuple):
    """Where our tables are, as a quoted name (None if nowhere), and the search path for our statements."""

    schema: str | None
    path: str


def find_surroundings(conn: psycopg.Connection[Any]) -> Surroundings:
    """Ask where our tables are, and which path is safe."""
    row = conn.execute(FIND_SURROUNDINGS).fetchone()
    schema, path = row or (None, "pg_temp")
    # A name that would have to be escaped in a statement with parameters is left to the path.
    return Surroundings(None if schema is None or set(schema) & set("%'") else schema, path)


@lru_cache(maxsize=1024)
def qualified(statement: str, schema: str | None) -> str:
    """Return a statement with the schema before each of our names."""
    if schema is None:
        return statement
    before = schema.replace("\\", "\\\\")
    statement = OUR_QUOTED_NAMES.sub(rf"'{before}.\1'", statement)
    return OUR_NAMES.sub(rf"{before}.\1", statement)


class OwnConnection(psycopg.Connection[TupleRow]):
    """A connection for our own SQL alone; `surroundings` is filled in as it is set up."""

    surroundings = Surroundings(None, "pg_temp")


class OwnCursor(psycopg.Cursor[Any]):
    """Sends our names with their schema."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> "OwnCursor":
        """Run a statement."""
        return super().execute(self._qualified(query), params, **options)

    def copy(self, statement: Any, params: Any = None, **options: Any) -> Any:
        """Run a COPY."""
        return super().copy(self._qualified(statement), params, **options)

    def _qualified(self, query: Any) -> Any:
        if not isinstance(query, str):
            return query
        assert isinstance(self.connection, OwnConnection)  # noqa: S101 - nobody else has such cursors
        return qualified(query, self.connection.surroundings.schema)


def is_idle(conn: psycopg.Connection[Any]) -> bool:
    """Tell whether a connection is usable and outside any transaction."""
    return not conn.closed and conn.info.transaction_status == pq.TransactionStatus.IDLE
