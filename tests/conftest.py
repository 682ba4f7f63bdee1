"""What every test may ask for: a real PostgreSQL, and databases of its own on it."""

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import TupleRow

from ayb_jobs.embedded import EmbeddedPostgres
from ayb_jobs.storage.migrate import migrate

TEMPLATE = "ayb_jobs_template"
_numbers = count(1)


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """The session's server: PostgreSQL 18, or the programs that AYB_JOBS_TEST_POSTGRES_BIN names."""
    bin_dir = os.environ.get("AYB_JOBS_TEST_POSTGRES_BIN")
    with EmbeddedPostgres.throwaway(
        bin_dir=Path(bin_dir) if bin_dir else None, settings={"max_connections": "300"}
    ) as server:
        yield server


@pytest.fixture(scope="session")
def template(postgres: EmbeddedPostgres) -> str:
    """The name of a migrated database, to copy from."""
    _administer(postgres, sql.SQL("CREATE DATABASE {}").format(sql.Identifier(TEMPLATE)))
    with psycopg.connect(postgres.url(TEMPLATE), autocommit=True) as conn:
        migrate(conn)
    return TEMPLATE


@pytest.fixture
def database_url(postgres: EmbeddedPostgres, template: str) -> Iterator[str]:
    """The address of a fresh, migrated database of the test's own."""
    yield from _database(postgres, template)


@pytest.fixture
def empty_database_url(postgres: EmbeddedPostgres) -> Iterator[str]:
    """The address of a fresh database of the test's own, with nothing in it."""
    yield from _database(postgres, "template0")


@pytest.fixture
def conn(database_url: str) -> Iterator[psycopg.Connection[TupleRow]]:
    """An autocommit connection to `database_url`."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


def _database(postgres: EmbeddedPostgres, template: str) -> Iterator[str]:
    name = f"test_{next(_numbers)}"
    _administer(
        postgres, sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
    )
    yield postgres.url(name)
    _administer(postgres, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _administer(postgres: EmbeddedPostgres, statement: sql.Composed) -> None:
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute(statement)
