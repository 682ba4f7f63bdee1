"""Somebody has a whole table locked: no row is at fault, and nothing is lost or given up while it lasts."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
from psycopg import sql

from ayb_jobs.events import JobsSettled
from ayb_jobs.runtime import narrowing
from ayb_jobs.runtime.jobs.buffer import Buffer
from ayb_jobs.runtime.jobs.in_flight import InFlight
from ayb_jobs.runtime.jobs.lease_keeper import LeaseKeeper
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection, Timeouts, connect
from ayb_jobs.storage.table_locks import TableLocked
from tests.completing import Completing
from tests.factories import make_job
from tests.producing import producing


@contextmanager
def locked(database_url: str, table: str, mode: str) -> Iterator[int]:
    """Lock a table, as CREATE INDEX (SHARE) and VACUUM FULL (ACCESS EXCLUSIVE) do; the session's pid comes back."""
    with closing(connect(database_url, name="operator")) as conn, conn.transaction():
        conn.execute(sql.SQL("LOCK TABLE {} IN {} MODE").format(sql.Identifier(table), sql.SQL(mode)))
        yield conn.info.backend_pid


@pytest.fixture
def impatient(database_url: str) -> Iterator[Database]:
    """Connections whose statements may take a fifth of a second."""
    with closing(Database(database_url, name="test", timeouts=Timeouts(statement_s=0.2))) as database:
        yield database


@pytest.mark.parametrize("remove_completed", [False, True])
@pytest.mark.parametrize("table", ["_ayb_jobs", "_ayb_job_executions"])
@pytest.mark.parametrize("mode", ["SHARE", "ACCESS EXCLUSIVE"])
def test_a_locked_table_is_told_and_all_endings_are_written_once_it_is_free(
    impatient: Database, database_url: str, conn: Connection, table: str, mode: str, *, remove_completed: bool
) -> None:
    completing = Completing(impatient, conn, remove_completed=remove_completed)
    for _ in range(8):
        completing.end_one()
    with locked(database_url, table, mode) as pid:
        for _ in range(2):
            with pytest.raises(
                TableLocked, match=rf"session {pid} has the lock {mode.title().replace(' ', '')}Lock on {table};"
            ):
                completing.completer.tick()
    assert completing.told == []
    assert completing.completer.pending == 8
    completing.completer.tick()
    (settled,) = completing.of(JobsSettled)
    assert len(settled.settlements) == 8
    assert len(completing.in_flight) == 0


def test_leases_are_extended_while_the_execution_log_is_locked(
    impatient: Database, database_url: str, conn: Connection
) -> None:
    completing = Completing(impatient, conn)
    held = completing.lease_one()
    keeping = LeaseKeeper(
        database=impatient, in_flight=completing.in_flight, emit=completing.told.append, lease_s=3.0, wake=lambda: None
    )
    with locked(database_url, "_ayb_job_executions", "ACCESS EXCLUSIVE"):
        keeping.tick()
    assert held.extended > 0
    assert completing.told == []


def test_a_locked_table_sets_no_job_aside_that_is_to_be_leased_or_extended(
    impatient: Database, database_url: str, conn: Connection
) -> None:
    completing = Completing(impatient, conn)
    completing.lease_one()
    keeping = LeaseKeeper(
        database=impatient, in_flight=completing.in_flight, emit=completing.told.append, lease_s=3.0, wake=lambda: None
    )
    for _ in range(4):
        make_job(conn)
    buffer = Buffer(on_low=lambda: None)
    buffer.idle = 4
    producer = producing(impatient, buffer, InFlight(), emit=completing.told.append).producer
    with locked(database_url, "_ayb_jobs", "SHARE"):
        for turn in (keeping.tick, producer.tick):
            with pytest.raises(TableLocked):
                turn()
    assert completing.told == []
    producer.tick()
    assert len(buffer) == 4


def test_a_turn_ends_early_if_each_row_waits_for_a_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(narrowing, "MOST_S", 0.0)

    def write(_: object) -> None:
        raise TimeoutError

    result = narrowing.narrowed(list(range(8)), write, blames=lambda _: True)
    assert [row for row, _ in result.refused] == [0]
    assert sorted(result.left) == list(range(1, 8))
