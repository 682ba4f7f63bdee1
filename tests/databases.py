"""Databases that tests throw away."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from functools import cached_property
from itertools import count
from typing import Self

from psycopg import sql

from ayb_jobs.embedded import EmbeddedPostgres
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.migrate import migrate

TEMPLATE = "ayb_jobs_template"
# Copying the files takes a fraction of the time that writing each block to the log takes.
COPY = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy")
DROP = sql.SQL("DROP DATABASE {} WITH (FORCE)")


class Databases:
    """Makes databases on a server, each for the time of a `with` block that gets its address."""

    def __init__(self, server: EmbeddedPostgres, conn: Connection) -> None:
        self._server = server
        self._conn = conn
        self._numbers = count(1)

    @classmethod
    @contextmanager
    def on(cls, server: EmbeddedPostgres) -> Iterator[Self]:
        """Make databases on `server` for the time of the block."""
        with closing(connect(server.url())) as conn:
            yield cls(server, conn)

    def empty(self) -> AbstractContextManager[str]:
        """Make a database with nothing in it."""
        return self._copy("template0")

    def migrated(self) -> AbstractContextManager[str]:
        """Make a database with the tables of this version."""
        return self._copy(self._template)

    @contextmanager
    def _copy(self, template: str) -> Iterator[str]:
        name = f"test_{next(self._numbers)}"
        self._conn.execute(COPY.format(sql.Identifier(name), sql.Identifier(template)))
        yield self._server.url(name)
        self._conn.execute(DROP.format(sql.Identifier(name)))

    @cached_property
    def _template(self) -> str:
        self._conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(TEMPLATE)))
        with closing(connect(self._server.url(TEMPLATE))) as conn:
            migrate(conn)
        return TEMPLATE
