"""A plugin for pytest: a database for each test. In `conftest.py`: `pytest_plugins = ["ayb_jobs.testing.fixtures"]`."""

from collections.abc import Callable, Iterator

import pytest

from ayb_jobs.embedded import EmbeddedPostgres
from ayb_jobs.storage.throwaway import Databases


@pytest.fixture(scope="session")
def ayb_jobs_server() -> Iterator[str]:
    """Give the address of a server on which databases may be made.

    It is a throwaway one, which needs the extra `embedded`. Define a fixture of this name to use another.
    """
    with EmbeddedPostgres.throwaway() as server:
        yield server.url()


@pytest.fixture(scope="session")
def ayb_jobs_schema() -> Callable[[str], object]:
    """Give what makes your tables: define a fixture of this name, whose function gets a database's address, once."""
    return lambda _url: None


@pytest.fixture(scope="session")
def ayb_jobs_databases(ayb_jobs_server: str, ayb_jobs_schema: Callable[[str], object]) -> Iterator[Databases]:
    """Give what makes databases on the server."""
    with Databases.on(ayb_jobs_server, ayb_jobs_schema) as databases:
        yield databases


@pytest.fixture
def ayb_jobs_url(ayb_jobs_databases: Databases) -> Iterator[str]:
    """Give the address of a database of the test's own, with the queue and your tables in it."""
    with ayb_jobs_databases.migrated() as url:
        yield url
