"""Work and the end of the job in one commit."""

import asyncio
import threading

import pytest
from psycopg import sql

from ayb_jobs.errors import InvalidInput, LeaseLost
from ayb_jobs.events import ExecutionsDropped, JobsSettled, LeasesLost
from ayb_jobs.handlers.async_context import AsyncJobContext
from ayb_jobs.handlers.context import JobContext
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.faults import RowUnchanged
from tests.eventually import eventually
from tests.factories import make_job
from tests.running import running

EFFECTS = "CREATE TABLE effects (job_id uuid)"
INSERT = "INSERT INTO effects VALUES (%s)"


def effects(conn: Connection) -> int:
    row = conn.execute("SELECT count(*) FROM effects").fetchone()
    assert row is not None
    return int(row[0])


def test_the_work_and_the_completion_are_one(database_url: str, conn: Connection) -> None:
    conn.execute(EFFECTS)
    seen: list[tuple[object, ...] | None] = []
    registry = Registry()

    @registry.handler("test")
    def run(ctx: JobContext) -> None:
        with ctx.transaction() as own:
            own.execute(INSERT, (ctx.job.id,))
            ctx.records_processed = 1
            seen.append(conn.execute("SELECT state FROM _ayb_jobs").fetchone())
        seen.append(conn.execute("SELECT state FROM _ayb_jobs").fetchone())

    with running(database_url, registry, poll_interval_ms=50) as daemon:
        make_job(conn)
        eventually(lambda: daemon.recorder.of(JobsSettled))
        assert not daemon.recorder.of(LeasesLost)
    assert seen == [("running",), ("completed",)]
    assert effects(conn) == 1
    row = conn.execute("SELECT outcome, records_processed, worker_id FROM _ayb_job_executions").fetchone()
    assert row == ("completed", 1, daemon.daemon.worker_id)


def test_a_handler_that_raises_after_its_transaction_has_completed_all_the_same(
    database_url: str, conn: Connection
) -> None:
    registry = Registry()

    @registry.handler("test")
    def run(ctx: JobContext) -> None:
        with ctx.transaction():
            pass
        raise RuntimeError

    with running(database_url, registry, poll_interval_ms=50) as daemon:
        make_job(conn)
        eventually(lambda: daemon.recorder.of(JobsSettled))
    assert conn.execute("SELECT outcome FROM _ayb_job_executions").fetchall() == [("completed",)]


@pytest.mark.parametrize("kind", ["plain", "async"])
@pytest.mark.parametrize("level", ["read committed", "repeatable read", "serializable"])
def test_a_block_whose_isolation_is_too_high_for_an_extended_lease_fails_and_says_what_to_do(
    database_url: str, conn: Connection, level: str, kind: str
) -> None:
    conn.execute(sql.SQL("ALTER DATABASE {} SET default_transaction_isolation = {}").format(
        sql.Identifier(conn.info.dbname), sql.Literal(level)
    ))  # fmt: skip
    extend = "UPDATE _ayb_jobs SET lease_until = lease_until + interval '1 second' WHERE type = %s"
    registry = Registry()

    @registry.handler("plain")
    def run(ctx: JobContext) -> None:
        with ctx.transaction() as own:
            own.execute("SELECT 1")
            conn.execute(extend, ("plain",))

    @registry.handler("async")
    async def run_async(ctx: AsyncJobContext) -> None:
        async with ctx.transaction() as own:
            await own.execute("SELECT 1")
            await asyncio.to_thread(conn.execute, extend, ("async",))

    with running(database_url, registry, poll_interval_ms=50) as daemon:
        make_job(conn, type=kind, max_attempts=1)
        eventually(lambda: daemon.recorder.of(JobsSettled))
    row = conn.execute("SELECT state, coalesce(last_error, '') FROM _ayb_jobs").fetchone()
    assert row is not None
    expected = ("completed", False) if level == "read committed" else ("failed", True)
    assert (row[0], "SET default_transaction_isolation = 'read committed'" in row[1]) == expected


def test_where_the_block_raises_nothing_is_done_and_the_attempt_fails(database_url: str, conn: Connection) -> None:
    conn.execute(EFFECTS)
    registry = Registry()

    @registry.handler("test")
    def run(ctx: JobContext) -> None:
        with ctx.transaction() as own:
            own.execute(INSERT, (ctx.job.id,))
            raise RuntimeError

    with running(database_url, registry, poll_interval_ms=50) as daemon:
        make_job(conn)
        eventually(lambda: daemon.recorder.of(JobsSettled))
    assert effects(conn) == 0
    assert conn.execute("SELECT state, attempts FROM _ayb_jobs").fetchone() == ("queued", 1)


def test_a_stale_lease_rolls_both_back(database_url: str, conn: Connection) -> None:
    conn.execute(EFFECTS)
    raised: list[BaseException] = []
    over = threading.Event()
    registry = Registry()

    @registry.handler("test")
    def run(ctx: JobContext) -> None:
        try:
            with ctx.transaction() as own:
                own.execute(INSERT, (ctx.job.id,))
                conn.execute("UPDATE _ayb_jobs SET lease_id = gen_random_uuid(), worker_id = 'successor'")
        except LeaseLost as error:
            raised.append(error)
            raise
        finally:
            over.set()

    with running(database_url, registry, poll_interval_ms=50) as daemon:
        make_job(conn)
        assert over.wait(10)
        eventually(lambda: daemon.recorder.of(LeasesLost))
    assert len(raised) == 1
    assert effects(conn) == 0
    assert conn.execute("SELECT state, worker_id FROM _ayb_jobs").fetchone() == ("running", "successor")


KEEP_RUNNING = """
    CREATE FUNCTION keep_running() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN {answer}; END $$;
    CREATE TRIGGER keep_running BEFORE UPDATE ON _ayb_jobs FOR EACH ROW
        WHEN (OLD.state = 'running' AND NEW.state = 'completed') EXECUTE FUNCTION keep_running()
"""


@pytest.mark.parametrize("answer", ["NULL", "OLD"])
def test_a_job_that_a_trigger_leaves_as_it_was_fails_for_that_reason(
    answer: str, database_url: str, conn: Connection
) -> None:
    conn.execute(EFFECTS)
    conn.execute(KEEP_RUNNING.format(answer=answer))
    registry = Registry()

    @registry.handler("test")
    def run(ctx: JobContext) -> None:
        with ctx.transaction() as own:
            own.execute(INSERT, (ctx.job.id,))

    with running(database_url, registry, poll_interval_ms=50) as daemon:
        make_job(conn, max_attempts=1)
        eventually(lambda: daemon.recorder.of(JobsSettled))
        assert not daemon.recorder.of(LeasesLost)
    assert effects(conn) == 0
    state, error = conn.execute("SELECT state, last_error FROM _ayb_jobs").fetchall()[0]
    assert (state, error) == ("failed", str(RowUnchanged()))


def test_an_execution_that_a_trigger_drops_is_told(database_url: str, conn: Connection) -> None:
    conn.execute("""
        CREATE FUNCTION drop_row() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
        CREATE TRIGGER drop_row BEFORE INSERT ON _ayb_job_executions FOR EACH ROW EXECUTE FUNCTION drop_row();
    """)
    registry = Registry()

    @registry.handler("test")
    def run(ctx: JobContext) -> None:
        with ctx.transaction():
            pass

    with running(database_url, registry, poll_interval_ms=50) as daemon:
        job_id = make_job(conn)
        eventually(lambda: daemon.recorder.of(ExecutionsDropped))
        eventually(lambda: daemon.recorder.of(JobsSettled))
    assert [event.job_id for event in daemon.recorder.of(ExecutionsDropped)] == [job_id]
    assert conn.execute("SELECT state FROM _ayb_jobs").fetchone() == ("completed",)


def test_a_job_is_completed_once(database_url: str, conn: Connection) -> None:
    raised: list[BaseException] = []
    registry = Registry()

    @registry.handler("test")
    def run(ctx: JobContext) -> None:
        with ctx.transaction():
            pass
        try:
            with ctx.transaction():
                pass
        except InvalidInput as error:
            raised.append(error)

    with running(database_url, registry, poll_interval_ms=50):
        make_job(conn)
        eventually(lambda: raised)
    assert conn.execute("SELECT state FROM _ayb_jobs").fetchone() == ("completed",)
    with pytest.raises(InvalidInput, match="once"):
        raise raised[0]
