"""Databases for tests, which are made on a server as copies of a migrated one, and dropped."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from functools import cached_property
from itertools import count
from typing import Self
from urllib.parse import quote, urlsplit

from psycopg import sql
from psycopg.conninfo import make_conninfo

from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.migrate import migrate

# Copying the files takes a fraction of the time that writing each block to the log takes.
COPY = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy")
DROP = sql.SQL("DROP DATABASE {} WITH (FORCE)")
# A database that somebody uses cannot be copied, and pools keep connections.
END_SESSIONS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"


class Databases:
    """Makes databases on a server, each for the time of a `with` block that gets its address.

    `schema` is called once, with the address of the migrated database of which the others are copies.
    """

    def __init__(self, server_url: str, conn: Connection, schema: Callable[[str], object]) -> None:
        self._server_url = server_url
        self._conn = conn
        self._schema = schema
        self._prefix = f"test_{secrets.token_hex(4)}"
        self._numbers = count(1)
        self._templates: list[str] = []

    @classmethod
    @contextmanager
    def on(cls, server_url: str, schema: Callable[[str], object] = lambda _: None) -> Iterator[Self]:
        """Make databases on a server for the time of the block, as a role that may."""
        with closing(connect(server_url)) as conn:
            made = cls(server_url, conn, schema)
            try:
                yield made
            finally:
                for name in made._templates:
                    conn.execute(DROP.format(sql.Identifier(name)))

    def empty(self) -> AbstractContextManager[str]:
        """Make a database with nothing in it."""
        return self._copy("template0")

    def migrated(self) -> AbstractContextManager[str]:
        """Make a database with the tables of this version."""
        return self._copy(self._template)

    @contextmanager
    def _copy(self, template: str) -> Iterator[str]:
        name = f"{self._prefix}_{next(self._numbers)}"
        self._conn.execute(COPY.format(sql.Identifier(name), sql.Identifier(template)))
        try:
            yield address_of(self._server_url, name)
        finally:
            self._conn.execute(DROP.format(sql.Identifier(name)))

    @cached_property
    def _template(self) -> str:
        name = f"{self._prefix}_template"
        self._conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        self._templates.append(name)
        url = address_of(self._server_url, name)
        with closing(connect(url)) as conn:
            migrate(conn)
        self._schema(url)
        self._conn.execute(END_SESSIONS, (name,))
        return name


def address_of(server_url: str, dbname: str) -> str:
    """Return the address of another database of a server, in the form in which the server's is given."""
    if "://" in server_url:
        return urlsplit(server_url)._replace(path=f"/{quote(dbname, safe='')}").geturl()
    return make_conninfo(server_url, dbname=dbname)
