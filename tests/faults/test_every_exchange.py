"""Whatever exchange with the database breaks, and however, the outcome is the same as if none had."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count

import pytest
from psycopg import sql
from psycopg_pool.base import AttemptWithBackoff

from ayb_jobs.embedded import EmbeddedPostgres
from ayb_jobs.runtime.aside import Waits
from ayb_jobs.runtime.fleet import lifeline
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection, connect
from tests.faults.lifecycles import LIFECYCLES, Lifecycle
from tests.faults.proxy import Break, Proxy

# Errors that a statement can meet through no fault of its own: connection, resources, operator intervention, locks.
SQLSTATES = (
    "08006",  # connection failure
    "25006",  # read-only: a standby
    "40001",  # serialization failure
    "40P01",  # deadlock
    "53100",  # disk full
    "53200",  # out of memory
    "53300",  # too many connections
    "54000",  # notification queue full
    "55P03",  # lock not available
    "57014",  # statement timeout
    "57P01",  # admin shutdown
    "57P03",  # cannot connect now
    "58030",  # input or output error
    "XX000",  # internal error
)
# Deleting a few rows takes a tenth of the time that truncating takes.
EMPTY = """
    DELETE FROM _ayb_job_executions; DELETE FROM _ayb_job_fires; DELETE FROM _ayb_jobs;
    DELETE FROM _ayb_job_schedules; DELETE FROM _ayb_job_workers;
"""
_numbers = count(1)

pytestmark = pytest.mark.timeout(900)  # each test runs a lifecycle once for each way in which each exchange can break


class Sweep:
    """Runs a lifecycle with one exchange broken, on a database with clean tables, or on one without any."""

    def __init__(self, kind: type[Lifecycle], postgres: EmbeddedPostgres, migrated_url: str) -> None:
        self._kind = kind
        self._server = postgres
        self._migrated_url = migrated_url

    def run(self, plan: Break | None) -> int:
        """Run it once; return how many exchanges it took. Asserts that the chosen one came, and what must hold."""
        lifecycle = self._kind()
        with self._database() as url, Proxy.before(url) as proxy, closing(connect(url)) as conn:
            lifecycle.prepare(conn)
            proxy.arm(plan)
            with closing(Database(proxy.url)) as db:
                lifecycle.act(db)
            assert plan is None or proxy.broke, f"there is no exchange {plan}"
            try:
                lifecycle.judge(conn)
            except AssertionError as error:
                error.add_note(f"with {plan}")
                raise
            return proxy.exchanges

    @contextmanager
    def _database(self) -> Iterator[str]:
        if self._kind.needs_schema:
            with closing(connect(self._migrated_url)) as conn:
                conn.execute(EMPTY)
            yield self._migrated_url
            return
        name = f"sweep_{next(_numbers)}"
        with closing(connect(self._server.url())) as conn:
            conn.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE template0 STRATEGY file_copy").format(sql.Identifier(name))
            )
            yield self._server.url(name)
            conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifeline, "SETTLE_S", 0.0)
    monkeypatch.setattr(Waits, "ids", lambda _: [])  # what was set aside is tried again by the next turn
    # The pool of handlers' connections waits a second after each that cannot be set up.
    monkeypatch.setattr(AttemptWithBackoff, "INITIAL_DELAY", 0.01)


# The migration has tests of its own: any of its many statements that fails undoes the same transaction.
FAILING = [name for name in LIFECYCLES if name != "Migrate"]


@pytest.mark.parametrize("name", [*FAILING, pytest.param("Migrate", marks=pytest.mark.slow)])
def test_every_cut_before_and_after(name: str, postgres: EmbeddedPostgres, database_url: str) -> None:
    sweep = Sweep(LIFECYCLES[name], postgres, database_url)
    exchanges = sweep.run(None)
    print(f"{name}: {exchanges} exchanges")
    for number in range(exchanges):
        for how in ("before", "after"):
            sweep.run(Break(number, how))


def test_a_migration_that_is_cut_now_and_then_is_done_by_the_next(
    postgres: EmbeddedPostgres, database_url: str
) -> None:
    sweep = Sweep(LIFECYCLES["Migrate"], postgres, database_url)
    exchanges = sweep.run(None)
    first, last = range(3), range(exchanges - 3, exchanges)  # locks are taken in the first, and all commits in the last
    for number in (*first, exchanges // 2, *last):
        for how in ("before", "after"):
            sweep.run(Break(number, how))


@pytest.mark.parametrize("name", FAILING)
def test_errors_in_turn_at_every_exchange(name: str, postgres: EmbeddedPostgres, database_url: str) -> None:
    sweep = Sweep(LIFECYCLES[name], postgres, database_url)
    first = FAILING.index(name) * len(SQLSTATES) // len(FAILING)
    for number in range(sweep.run(None)):
        sweep.run(Break(number, SQLSTATES[(first + number) % len(SQLSTATES)]))


@pytest.mark.slow
@pytest.mark.parametrize("name", FAILING)
def test_every_error_at_every_exchange(name: str, postgres: EmbeddedPostgres, database_url: str) -> None:
    sweep = Sweep(LIFECYCLES[name], postgres, database_url)
    for number in range(sweep.run(None)):
        for sqlstate in SQLSTATES:
            sweep.run(Break(number, sqlstate))


@pytest.fixture
def conn_through(database_url: str) -> Iterator[tuple[Proxy, Connection]]:
    with Proxy.before(database_url) as proxy, closing(connect(proxy.url)) as conn:
        yield proxy, conn


def test_a_cut_after_leaves_the_server_having_acted(conn_through: tuple[Proxy, Connection], conn: Connection) -> None:
    proxy, through = conn_through
    for how, there in (("after", 1), ("before", 1)):
        proxy.arm(Break(0, how))
        with pytest.raises(Exception, match="server closed the connection"):
            through.execute("INSERT INTO _ayb_jobs (type) VALUES ('test')")
        assert conn.execute("SELECT count(*) FROM _ayb_jobs").fetchone() == (there,)
        through = connect(proxy.url)
    through.close()
