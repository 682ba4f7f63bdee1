"""What every test may ask for: a real PostgreSQL, and databases of its own on it."""

import os
import shutil
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import pytest

from ayb_jobs.embedded import EmbeddedPostgres
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.hearing import Heard
from ayb_jobs.storage.throwaway import Databases
from tests.leaks import no_leaks
from tests.majors import MAJORS, how_to_install, programs
from tests.pgbouncer import PgBouncer

SHARED = {"browser", "shared_server", "fuzzed_server", "table_of_jobs", "table_of_batches"}

SERVERS = {"postgres", "each_postgres"}
# Folders and files whose tests start daemons, a server of their own, or take long.
PROCESSES = {
    "acceptance", "faults", "lab", "models", "test_embedded.py", "test_demo.py", "test_cron_oracle.py", "test_pictures.py",
    "test_torture.py", "test_tutorial.py", "test_check_config.py", "test_posting.py", "test_hostile_input.py",
    "test_howto.py",
}  # fmt: skip

R = TypeVar("R", pytest.TestReport, pytest.CollectReport)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--without-database", action="store_true", help="only tests that start no PostgreSQL and no daemon"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--without-database"):
        items[:] = [item for item in items if needs_no_database(item)]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Import nothing of what would be left out as a whole."""
    inner = not config.getoption("--without-database") or PROCESSES.isdisjoint(collection_path.parts)
    return None if inner else True


def needs_no_database(item: pytest.Item) -> bool:
    """Whether a test belongs to the inner loop, which a person runs after every few lines."""
    fixtures = set(getattr(item, "fixturenames", ()))
    return SERVERS.isdisjoint(fixtures) and item.get_closest_marker("outer") is None


@pytest.fixture(autouse=True)
def _no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves threads or open descriptors. A server that tests share may open more as they use it."""
    if SHARED.isdisjoint(request.fixturenames):
        with no_leaks():
            yield
    else:
        yield


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """The session's server: PostgreSQL 18, or the programs that TEST_POSTGRES_BIN names."""
    bin_dir = os.environ.get("TEST_POSTGRES_BIN")
    with EmbeddedPostgres.throwaway(
        bin_dir=Path(bin_dir) if bin_dir else None, settings={"max_connections": "300"}
    ) as server:
        yield server


@pytest.fixture(scope="session")
def databases(postgres: EmbeddedPostgres) -> Iterator[Databases]:
    """Makes databases on `postgres`, empty ones or migrated ones."""
    with Databases.on(postgres.url()) as made:
        yield made


@pytest.fixture
def database_url(databases: Databases) -> Iterator[str]:
    """The address of a fresh, migrated database of the test's own."""
    with databases.migrated() as url:
        yield url


@pytest.fixture
def empty_database_url(databases: Databases) -> Iterator[str]:
    """The address of a fresh database of the test's own, with nothing in it."""
    with databases.empty() as url:
        yield url


@pytest.fixture(scope="session", params=MAJORS, ids=lambda major: f"postgresql{major}")
def each_postgres(request: pytest.FixtureRequest) -> Iterator[EmbeddedPostgres]:
    """A server of each supported major version in turn; a test that asks for it runs once on each."""
    bin_dir = programs(request.param)
    if bin_dir is None:
        pytest.skip(f"PostgreSQL {request.param} is not installed: {how_to_install(request.param)}")
    with EmbeddedPostgres.throwaway(bin_dir=bin_dir) as server:
        yield server


@pytest.fixture
def each_empty_database_url(each_postgres: EmbeddedPostgres) -> Iterator[str]:
    """The address of a fresh database with nothing in it, on each major version in turn."""
    with Databases.on(each_postgres.url()) as databases, databases.empty() as url:
        yield url


@pytest.fixture(scope="session")
def pgbouncer(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PgBouncer]:
    """A PgBouncer in transaction mode in front of `postgres`; `pgbouncer.url(database_url)` leads through it."""
    if shutil.which("pgbouncer", path=PgBouncer.SEARCHED) is None:
        pytest.skip("PgBouncer is not installed: apt-get install pgbouncer")
    with PgBouncer.running(postgres, tmp_path_factory.mktemp("pgbouncer")) as pooler:
        yield pooler


@pytest.fixture
def conn(database_url: str) -> Iterator[Connection]:
    """An autocommit connection to `database_url`, set up as the daemon's own are."""
    with closing(connect(database_url, name="test")) as connection:
        yield connection


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    """The daemon's connections to `database_url`."""
    with closing(Database(database_url, name="test")) as database:
        yield database


@pytest.fixture
def notified(database_url: str) -> Iterator[Callable[[], int]]:
    """Counts the notifications about jobs since its last call; what was sent before a call has arrived by then."""
    with closing(connect(database_url, name="listener")) as connection:
        heard = Heard(connection)
        connection.execute("LISTEN ayb_jobs")

        def count() -> int:
            connection.execute("SELECT 1")
            return len(heard.take())

        yield count


# Where TEST_REFUSE_SKIPS is set every real part is installed, and a test or module that is skipped has failed.
# (Variables that begin with AYB_JOBS_ are the daemon's settings, and it refuses those that it does not know.)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _with_skips_refused((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _with_skips_refused((yield))


def _with_skips_refused(report: R) -> R:
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("TEST_REFUSE_SKIPS"):
        report.outcome = "failed"
        report.longrepr = f"skipped where skips are refused: {report.longrepr}"
    return report
