"""Connections for our own SQL alone: no name and no operator in it means what another role has made.

Whoever may create objects in a schema of the search path can add an operator that fits our statements better than
PostgreSQL's own, and his function then runs as the daemon's role. So two things are done:

- The path holds only schemas in which no other role may create anything, or has made what bears a built-in's name while
  it might. Triggers of the application still find unqualified names in those; PostgreSQL from 15 on lets nobody else
  create in `public`.
- The names of our tables, functions and sequences are sent with their schema, which need not be on the path then.

Handlers' connections, on which users' SQL runs, keep the path that the database gives them.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import psycopg
from psycopg import pq
from psycopg.rows import TupleRow

# Our names where no schema stands before them. In quotes they are names too, such as of a sequence, if nothing else is
# in the quotes; but for the keys of locks, which are hashed.
# What must not stand before a name is looked at behind its first characters: those are found many times faster, and a
# daemon sends some sixty statements as it starts.
OUR_NAMES = re.compile(
    r"""(?:_ayb_job(?<![\w."'$]_ayb_job)(?:s|s?_\w+)|job_execution(?<![\w."'$]job_execution))\b(?!')"""
)
OUR_QUOTED_NAMES = re.compile(r"'(?<!hashtextextended\(')(_ayb_jobs|_ayb_jobs?_\w+|job_execution)'")

# Where our tables are, or would be made, and the part of the path that is safe. Trusted with making objects are we
# ourselves, superusers, the owners of the database and of our tables: they can do all that an operator of theirs could.
# It runs on the path as it is found, so that every name and every operator in it has its schema.
# An operator or a function outlives the right to make it. The built-ins' own schema comes first if it is not named.
FIND_SURROUNDINGS = """
    WITH ours AS (
        SELECT relowner, relnamespace FROM pg_catalog.pg_class
        WHERE oid OPERATOR(pg_catalog.=) pg_catalog.to_regclass('_ayb_jobs'::pg_catalog.text)::pg_catalog.oid
    ), trusted AS (
        SELECT oid FROM pg_catalog.pg_roles
        WHERE rolsuper OR rolname OPERATOR(pg_catalog.=) current_user
            OR rolname OPERATOR(pg_catalog.=) 'pg_database_owner'::pg_catalog.name
        UNION ALL
        SELECT datdba FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database()
        UNION ALL
        SELECT relowner FROM ours
    ), anothers AS (
        SELECT made.classid, made.objid FROM pg_catalog.pg_shdepend AS made
        WHERE made.dbid OPERATOR(pg_catalog.=) (
                SELECT oid FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database()
            )
            AND made.deptype OPERATOR(pg_catalog.=) 'o'::pg_catalog."char"
            AND made.refobjid OPERATOR(pg_catalog.<>) ALL (ARRAY(SELECT oid FROM trusted))
    ), shadowing AS (
        SELECT oprnamespace AS place FROM anothers
        JOIN pg_catalog.pg_operator AS made ON made.oid OPERATOR(pg_catalog.=) objid
        WHERE classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_operator'::pg_catalog.regclass::pg_catalog.oid
        UNION ALL
        SELECT made.pronamespace FROM anothers
        JOIN pg_catalog.pg_proc AS made ON made.oid OPERATOR(pg_catalog.=) objid
        JOIN pg_catalog.pg_proc AS built_in ON built_in.proname OPERATOR(pg_catalog.=) made.proname
        WHERE classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass::pg_catalog.oid
            AND built_in.pronamespace OPERATOR(pg_catalog.=) 'pg_catalog'::pg_catalog.regnamespace::pg_catalog.oid
    ), path AS (
        SELECT
            space.nspname, place.number,
            space.oid OPERATOR(pg_catalog.<>) ALL (ARRAY(SELECT shadowing.place FROM shadowing)) AND NOT EXISTS (
                SELECT FROM pg_catalog.aclexplode(
                    coalesce(space.nspacl, pg_catalog.acldefault('n'::pg_catalog."char", space.nspowner))
                ) AS held
                WHERE held.privilege_type OPERATOR(pg_catalog.=) 'CREATE'::pg_catalog.text
                    AND held.grantee OPERATOR(pg_catalog.<>) ALL (ARRAY(SELECT oid FROM trusted))
            ) AS is_safe
        FROM pg_catalog.unnest(pg_catalog.current_schemas(false)) WITH ORDINALITY AS place (name, number)
        JOIN pg_catalog.pg_namespace AS space ON space.nspname OPERATOR(pg_catalog.=) place.name
        WHERE space.nspname OPERATOR(pg_catalog.<>) 'pg_catalog'::pg_catalog.name
    )
    SELECT
        pg_catalog.quote_ident(coalesce(
            (
                SELECT nspname FROM pg_catalog.pg_namespace
                WHERE oid OPERATOR(pg_catalog.=) (SELECT relnamespace FROM ours)
            ),
            pg_catalog.current_schema()
        )::pg_catalog.text),
        coalesce((
            SELECT pg_catalog.string_agg(
                pg_catalog.quote_ident(nspname::pg_catalog.text), ', '::pg_catalog.text ORDER BY number
            ) OPERATOR(pg_catalog.||) ', '::pg_catalog.text
            FROM path WHERE is_safe
        ), ''::pg_catalog.text) OPERATOR(pg_catalog.||) 'pg_temp'::pg_catalog.text
"""


class Surroundings(NamedTuple):
    """Where our tables are, as a quoted name (None if nowhere), and the search path for our statements."""

    schema: str | None
    path: str


def find_surroundings(conn: psycopg.Connection[Any]) -> Surroundings:
    """Ask where our tables are or would be made, and which path is safe, on a connection that has its path still."""
    row = conn.execute(FIND_SURROUNDINGS).fetchone()
    schema, path = row or (None, "pg_temp")
    # A name that would have to be escaped in a statement with parameters is left to the path.
    return Surroundings(None if schema is None or set(schema) & set("%'") else schema, path)


def surroundings_of(conn: psycopg.Connection[Any]) -> Surroundings:
    """Return where our tables are or would be made, and the safe path. A connection of our own knows both.

    It could not ask anew: the schema in which tables would be made need not be on its path.
    """
    return conn.surroundings if isinstance(conn, OwnConnection) else find_surroundings(conn)


@lru_cache(maxsize=1024)
def qualified(statement: str, schema: str | None) -> str:
    """Return a statement with the schema before each of our names."""
    if schema is None:
        return statement
    before = schema.replace("\\", "\\\\")
    statement = OUR_QUOTED_NAMES.sub(rf"'{before}.\1'", statement)
    return OUR_NAMES.sub(rf"{before}.\g<0>", statement)


SET_PATH = "SELECT pg_catalog.set_config('search_path', %(path)s, %(for_transaction)s)"


class OwnConnection(psycopg.Connection[TupleRow]):
    """A connection for our own SQL alone; `surroundings` is filled in as it is set up.

    One that `forgets` leads through a pooler that may hand each transaction to another session: each sets its path.
    """

    surroundings = Surroundings(None, "pg_temp")
    forgets = False
    # The id of the thread that had it last.
    last_thread = 0

    def keep_to(self, surroundings: Surroundings, *, lasts: bool) -> None:
        """Take no other role's objects for ours from now on; `lasts` tells whether a setting lasts on the session."""
        self.surroundings, self.forgets = surroundings, not lasts
        self.cursor_factory = OwnCursor
        if lasts:
            self.execute(SET_PATH, {"path": surroundings.path, "for_transaction": False})

    @contextmanager
    def transaction(self, *args: Any, **options: Any) -> Iterator[psycopg.Transaction]:
        """Open a transaction, or a savepoint inside one."""
        begins = self.forgets and is_idle(self)
        with super().transaction(*args, **options) as transaction:
            if begins:
                self.execute(SET_PATH, {"path": self.surroundings.path, "for_transaction": True})
            yield transaction


class OwnCursor(psycopg.Cursor[Any]):
    """Sends our names with their schema."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> "OwnCursor":
        """Run a statement."""
        if self._ours.forgets and is_idle(self._ours):
            with self._ours.transaction():
                return super().execute(self._qualified(query), params, **options)
        return super().execute(self._qualified(query), params, **options)

    def copy(self, statement: Any, params: Any = None, **options: Any) -> Any:
        """Run a COPY."""
        return super().copy(self._qualified(statement), params, **options)

    def _qualified(self, query: Any) -> Any:
        return qualified(query, self._ours.surroundings.schema) if isinstance(query, str) else query

    @property
    def _ours(self) -> OwnConnection:
        assert isinstance(self.connection, OwnConnection)  # noqa: S101 - nobody else has such cursors
        return self.connection


def is_idle(conn: psycopg.Connection[Any]) -> bool:
    """Tell whether a connection is usable and outside any transaction."""
    return not conn.closed and conn.info.transaction_status == pq.TransactionStatus.IDLE
