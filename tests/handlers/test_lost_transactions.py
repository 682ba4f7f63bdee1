"""A block that ends well has been committed: whatever rolls its transaction back inside it makes its end raise."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, cast

import psycopg
import pytest

from ayb_jobs.errors import TransactionLost
from ayb_jobs.events import JobsSettled
from ayb_jobs.handlers.async_context import AsyncJobContext
from ayb_jobs.handlers.context import JobContext
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.storage.async_database import AsyncDatabase
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection, Timeouts
from ayb_jobs.storage.work_transaction import AsyncConnection
from tests.eventually import eventually
from tests.factories import make_job
from tests.handlers.conftest import Lease
from tests.running import running

Block = Callable[[Connection], object]


def write(lent: Connection) -> None:
    lent.execute("INSERT INTO work VALUES (1)")


def swallow_an_error(lent: Connection) -> None:
    write(lent)
    with suppress(psycopg.Error):
        lent.execute("SELECT 1 / 0")


def swallow_all_later_errors(lent: Connection) -> None:
    for divisor in (1, 0, 2):
        with suppress(psycopg.Error):
            lent.execute("INSERT INTO work VALUES (10 / %s::int)", (divisor,))


def swallow_a_lost_connection(lent: Connection) -> None:
    write(lent)
    with suppress(psycopg.Error):
        lent.execute("SELECT pg_terminate_backend(pg_backend_pid())")


def close_the_connection(lent: Connection) -> None:
    write(lent)
    lent.close()


def roll_back(lent: Connection) -> None:
    write(lent)
    lent.execute("ROLLBACK")


def roll_back_and_go_on(lent: Connection) -> None:
    roll_back(lent)
    lent.execute("SELECT 1")


def roll_back_and_begin_anew(lent: Connection) -> None:
    swallow_an_error(lent)
    lent.execute("ROLLBACK")
    lent.execute("BEGIN")


def commit_nothing(lent: Connection) -> None:
    lent.execute("COMMIT")


def leave_autocommit(lent: Connection) -> None:
    roll_back(lent)
    lent.autocommit = False


def roll_back_and_chain(lent: Connection) -> None:
    write(lent)
    lent.execute("ROLLBACK AND CHAIN")


def commit_and_chain(lent: Connection) -> None:
    lent.execute("COMMIT AND CHAIN")


def roll_back_and_begin_in_one_string(lent: Connection) -> None:
    write(lent)
    lent.execute("ROLLBACK; BEGIN")


def chain_in_the_middle_of_a_string(lent: Connection) -> None:
    write(lent)
    lent.execute("SELECT 1; ROLLBACK AND CHAIN; SELECT 2")


def chain_and_fail_in_a_savepoint(lent: Connection) -> None:
    write(lent)
    with suppress(psycopg.Error), lent.transaction():
        lent.execute("ROLLBACK AND CHAIN")


def call_what_commits(lent: Connection) -> None:
    lent.execute("CREATE PROCEDURE commits() LANGUAGE plpgsql AS $$ BEGIN COMMIT; END $$")
    with suppress(psycopg.Error):
        lent.execute("CALL commits()")


def call_what_commits_outside_of_the_transaction(lent: Connection) -> None:
    with suppress(psycopg.Error):
        lent.execute("ROLLBACK; DO $$ BEGIN COMMIT; END $$")
    lent.execute("BEGIN")


def reset_all_after_a_chain(lent: Connection) -> None:
    roll_back_and_chain(lent)
    lent.execute("RESET ALL")


LOSING: list[Block] = [
    swallow_an_error,
    swallow_all_later_errors,
    swallow_a_lost_connection,
    close_the_connection,
    roll_back,
    roll_back_and_go_on,
    roll_back_and_begin_anew,
    commit_nothing,
    leave_autocommit,
    roll_back_and_chain,
    commit_and_chain,
    roll_back_and_begin_in_one_string,
    chain_in_the_middle_of_a_string,
    chain_and_fail_in_a_savepoint,
    call_what_commits,
    call_what_commits_outside_of_the_transaction,
    reset_all_after_a_chain,
]


def reset_all(lent: Connection) -> None:
    lent.execute("RESET ALL")


def read_instants_otherwise(lent: Connection) -> None:
    lent.execute(
        "SET LOCAL DateStyle = 'German'; SET LOCAL TimeZone = 'Asia/Kathmandu'; SET LOCAL bytea_output = escape"
    )


def squat_names(lent: Connection) -> None:
    lent.execute("CREATE FUNCTION public.now() RETURNS timestamptz LANGUAGE sql AS 'SELECT clock_timestamp()'")
    lent.execute("SET LOCAL search_path = public, pg_catalog")


def take_time(lent: Connection) -> None:
    lent.execute("SELECT pg_sleep(0.01); SELECT pg_sleep(0.01)")


KEEPING: list[Block] = [reset_all, read_instants_otherwise, squat_names, take_time]


@pytest.fixture
def work(conn: Connection) -> Callable[[], int]:
    """Returns a function that counts the rows of the table that blocks write to."""
    conn.execute("CREATE TABLE work (n int)")

    def rows() -> int:
        return int(conn.execute("SELECT count(*) FROM work").fetchall()[0][0])

    return rows


@pytest.mark.parametrize("block", LOSING)
def test_a_block_whose_transaction_is_gone_raises_at_its_end(
    block: Block, work: Callable[[], int], lease: Lease, db: Database
) -> None:
    with pytest.raises(TransactionLost), lease().connection() as lent:
        block(lent)
    assert work() == 0
    with db.work() as later:
        assert later.autocommit
        later.execute("SELECT 1")


@pytest.mark.parametrize("block", LOSING)
def test_a_transaction_that_is_gone_does_not_complete_its_job(
    block: Block, work: Callable[[], int], lease: Lease, conn: Connection
) -> None:
    context = lease()
    with pytest.raises(TransactionLost), context.transaction() as lent:
        block(lent)
    assert not context.settled
    assert work() == 0
    assert conn.execute("SELECT state FROM _ayb_jobs").fetchall() == [("running",)]


class Awaited:
    """An asynchronous connection in the form of a plain one, for blocks that run beside its event loop."""

    def __init__(self, lent: AsyncConnection, loop: asyncio.AbstractEventLoop) -> None:
        self._lent = lent
        self._loop = loop

    def _awaited(self, wanted: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(wanted, self._loop).result(10)

    def execute(self, *statement: Any) -> Any:
        return self._awaited(self._lent.execute(*statement))

    def close(self) -> None:
        self._awaited(self._lent.close())

    @contextmanager
    def transaction(self) -> Iterator[None]:
        block = self._lent.transaction()
        self._awaited(block.__aenter__())
        try:
            yield
        except BaseException as error:
            self._awaited(block.__aexit__(type(error), error, None))
            raise
        self._awaited(block.__aexit__(None, None, None))

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "autocommit":
            self._awaited(self._lent.set_autocommit(value))
        else:
            object.__setattr__(self, name, value)


@asynccontextmanager
async def awaited(context: JobContext, database_url: str) -> AsyncIterator[AsyncJobContext]:
    database = AsyncDatabase(database_url, work_connections=1, timeouts=Timeouts())
    with ThreadPoolExecutor(1) as threads:
        try:
            yield AsyncJobContext(context, database, threads)
        finally:
            await database.close()


@pytest.mark.parametrize("block", LOSING)
def test_an_awaited_block_whose_transaction_is_gone_raises_and_completes_nothing(
    block: Block, work: Callable[[], int], lease: Lease, database_url: str, conn: Connection
) -> None:
    async def run() -> None:
        async with awaited(lease(), database_url) as context:
            loop = asyncio.get_running_loop()
            for way in (context.connection, context.transaction):
                conn.execute("DROP PROCEDURE IF EXISTS commits()")
                with pytest.raises(TransactionLost):
                    async with way() as lent:
                        await asyncio.to_thread(block, cast(Connection, Awaited(lent, loop)))
            assert not context.settled

    asyncio.run(run())
    assert work() == 0
    assert conn.execute("SELECT state FROM _ayb_jobs").fetchall() == [("running",)]


@pytest.mark.parametrize("block", KEEPING)
def test_what_leaves_the_transaction_alone_is_no_loss(block: Block, work: Callable[[], int], lease: Lease) -> None:
    with lease().connection() as lent:
        write(lent)
        block(lent)
    assert work() == 1


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_psycopg_refuses_to_end_the_block_s_transaction(end: str, work: Callable[[], int], lease: Lease) -> None:
    with lease().connection() as lent:
        write(lent)
        with suppress(psycopg.ProgrammingError):
            getattr(lent, end)()
    assert work() == 1


def test_an_error_within_a_savepoint_costs_the_savepoint_alone(work: Callable[[], int], lease: Lease) -> None:
    with lease().connection() as lent:
        for divisor in (1, 0, 2):
            with suppress(psycopg.Error), lent.transaction():
                lent.execute("INSERT INTO work VALUES (10 / %s::int)", (divisor,))
        lent.execute("SAVEPOINT mine")
        with suppress(psycopg.Error):
            lent.execute("SELECT 1 / 0")
        lent.execute("ROLLBACK TO mine")
        with lent.transaction(force_rollback=True):
            write(lent)
    assert work() == 2


def test_an_error_that_leaves_the_block_is_the_attempt_s(work: Callable[[], int], lease: Lease) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero), lease().connection() as lent:
        lent.execute("INSERT INTO work VALUES (1 / 0)")
    assert work() == 0


def test_a_job_whose_work_was_rolled_back_has_failed(
    work: Callable[[], int], database_url: str, conn: Connection
) -> None:
    registry = Registry()

    @registry.handler("test")
    def run(ctx: JobContext) -> int:
        with ctx.connection() as lent:
            swallow_an_error(lent)
        return 2

    with running(database_url, registry, poll_interval_ms=50) as daemon:
        make_job(conn, max_attempts=1)
        eventually(lambda: daemon.recorder.of(JobsSettled))
    state, error = conn.execute("SELECT state, last_error FROM _ayb_jobs").fetchall()[0]
    assert (state, error.partition(";")[0]) == (
        "failed",
        "a statement failed inside the block, so that nothing of the block is kept",
    )
    assert work() == 0
