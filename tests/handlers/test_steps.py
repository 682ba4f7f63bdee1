"""Steps run once for a job, under its lease; a later attempt goes on from the last checkpoint."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any

import pytest

from ayb_jobs import AsyncJobContext, JobContext, Registry
from ayb_jobs.config import Retention
from ayb_jobs.errors import Discard, InvalidInput, LeaseLost, Stopped
from ayb_jobs.handlers import steps
from ayb_jobs.runtime.chores.pruner import Pruner
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection
from tests.eventually import eventually
from tests.factories import make_job
from tests.handlers.conftest import Lease
from tests.running import running


def kept(conn: Connection) -> dict[str, Any]:
    return dict(conn.execute("SELECT name, result FROM _ayb_job_steps ORDER BY name").fetchall())


def never() -> None:
    pytest.fail("the step ran again")


def again(conn: Connection, context: JobContext) -> JobContext:
    """Return a context of a later attempt of the same job, under a new lease."""
    (lease_id,) = conn.execute(
        "UPDATE _ayb_jobs SET lease_id = gen_random_uuid() RETURNING lease_id::text"
    ).fetchone() or ("",)
    return JobContext(context.job._replace(lease_id=lease_id, attempt=2), context._services)


def test_a_step_runs_once_for_a_job_and_comes_back_as_json(conn: Connection, lease: Lease) -> None:
    context = lease()
    assert context.step("charge", lambda: {"id": ("a", 1)}) == {"id": ["a", 1]}
    assert context.step("charge", never) == {"id": ["a", 1]}
    assert context.step("nothing", lambda: None) is None
    later = again(conn, context)
    assert later.step("charge", never) == {"id": ["a", 1]}
    assert later.step("nothing", never) is None
    assert kept(conn) == {"charge": {"id": ["a", 1]}, "nothing": None}


def test_a_step_that_raises_is_not_done(conn: Connection, lease: Lease) -> None:
    context = lease()
    with pytest.raises(ZeroDivisionError):
        context.step("charge", lambda: 1 / 0)
    assert kept(conn) == {}
    assert context.step("charge", lambda: 1) == 1


def test_a_lost_lease_keeps_no_step_and_stops_the_handler(conn: Connection, lease: Lease) -> None:
    context = lease()
    later = again(conn, context)
    with pytest.raises(LeaseLost):
        context.step("charge", lambda: "late")
    assert context.stop_reason == "lease_lost"
    assert kept(conn) == {}
    assert later.step("charge", lambda: "mine") == "mine"
    with pytest.raises(LeaseLost):
        context.progress(1, checkpoint="late")
    assert kept(conn) == {"charge": "mine"}


def test_a_step_whose_keeping_was_not_answered_is_kept_by_the_next_try(conn: Connection, lease: Lease) -> None:
    context = lease()
    context.step("first", lambda: 1)
    conn.execute(
        "INSERT INTO _ayb_job_steps (job_id, name, result) VALUES (%s, 'charge', '\"not answered\"')", (context.job.id,)
    )
    assert context.step("charge", lambda: "again") == "again"
    assert kept(conn) == {"first": 1, "charge": "again"}
    again(conn, context)
    with pytest.raises(LeaseLost):
        context.keep_step("charge", "late")
    assert kept(conn) == {"first": 1, "charge": "again"}


def test_no_step_begins_once_the_handler_should_end(lease: Lease) -> None:
    context = lease()
    context.step("done", lambda: 1)
    context.stop("shutdown")
    assert context.step("done", never) == 1
    with pytest.raises(Stopped):
        context.step("next", never)


def test_a_step_whose_result_cannot_be_kept_discards_the_job(lease: Lease) -> None:
    with pytest.raises(Discard, match=r"what step charge returned cannot be kept: result\[0\]: a set cannot be stored"):
        lease().step("charge", lambda: [{1}])


@pytest.mark.parametrize("name", ["", " ", "x" * 101, "a\x00", 5])
def test_a_name_that_no_step_can_have_is_refused(conn: Connection, lease: Lease, name: Any) -> None:
    with pytest.raises(InvalidInput, match=r"^step "):
        lease().step(name, never)


def test_a_job_has_so_many_steps(lease: Lease, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "MOST_STEPS", 1)
    context = lease()
    for name in ("one", "two"):
        context.step(name, lambda: 1)
    with pytest.raises(InvalidInput, match="step three is one too many"):
        context.step("three", never)


def test_a_later_attempt_has_the_last_checkpoint(conn: Connection, lease: Lease) -> None:
    context = lease()
    seen = [context.checkpoint]
    for checkpoint in ({"page": 1}, None, {"page": 2}):
        context.progress(3, "begun", percent=10.5, checkpoint=checkpoint)
        seen.append(context.checkpoint)
    assert seen == [None, {"page": 1}, None, {"page": 2}]
    context.progress(5)
    assert again(conn, context).checkpoint == {"page": 2}
    context = again(conn, context)
    context.progress(7, "nearly", percent=90)
    assert conn.execute("SELECT progress FROM _ayb_jobs").fetchall() == [
        ({"records_processed": 7, "percent": 90, "message": "nearly"},)
    ]


@pytest.mark.parametrize("block", [JobContext.connection, JobContext.transaction])
def test_what_would_outlive_a_rollback_of_its_block_is_refused(
    conn: Connection, lease: Lease, block: Callable[[JobContext], AbstractContextManager[Connection]]
) -> None:
    conn.execute("CREATE TABLE work (n int)")
    context = lease()
    with pytest.raises(InvalidInput, match="step charge stands within a block of ctx"), block(context) as lent:
        context.step("charge", lambda: lent.execute("INSERT INTO work VALUES (1)").rowcount)
    with pytest.raises(InvalidInput, match="a checkpoint stands within a block of ctx"), block(context):
        context.progress(checkpoint=1)
    assert (kept(conn), conn.execute("SELECT 1 FROM work").fetchall()) == ({}, [])
    with block(context), ThreadPoolExecutor() as beside:
        context.progress(1, "half")
        assert beside.submit(context.step, "beside", lambda: 1).result() == 1

    def charge() -> int:
        with block(context) as lent:
            return lent.execute("INSERT INTO work VALUES (1)").rowcount

    if block is JobContext.connection:
        assert context.step("charge", charge) == 1
        context.progress(checkpoint=2)
        assert kept(conn) == {"beside": 1, "charge": 1, "": 2}


@pytest.mark.parametrize("block", [AsyncJobContext.connection, AsyncJobContext.transaction])
def test_what_would_outlive_a_rollback_of_its_block_is_refused_in_async_handlers(
    database_url: str, conn: Connection, block: Callable[[AsyncJobContext], AbstractAsyncContextManager[Any]]
) -> None:
    registry = Registry()
    told: list[str] = []

    async def one() -> int:
        return 1

    @registry.handler("test")
    async def handler(ctx: AsyncJobContext) -> None:
        async def within(ask: Callable[[], Awaitable[object]]) -> None:
            async with block(ctx):
                await ask()

        open_block = asyncio.Event()

        async def hold_block() -> None:
            async with ctx.connection():
                open_block.set()
                await beside_is_done.wait()

        for ask in (lambda: ctx.step("charge", one), lambda: ctx.progress(checkpoint=1)):
            try:
                await within(ask)
            except InvalidInput as error:
                told.append(error.field or "")
        beside_is_done = asyncio.Event()
        holding = asyncio.create_task(hold_block())
        await open_block.wait()
        await ctx.step("beside", one)
        beside_is_done.set()
        await holding
        async with ctx.connection():
            block_is_over = asyncio.Event()
            outliving = asyncio.create_task(_after(block_is_over, lambda: ctx.step("outlives", one)))
        block_is_over.set()
        await outliving

    make_job(conn)
    with running(database_url, registry, poll_interval_ms=50):
        eventually(lambda: conn.execute("SELECT 1 FROM _ayb_jobs WHERE state = 'completed'").fetchone())
    assert told == ["step", "checkpoint"]
    assert kept(conn) == {"beside": 1, "outlives": 1}


async def _after(event: asyncio.Event, ask: Callable[[], Awaitable[object]]) -> None:
    await event.wait()
    await ask()


@pytest.mark.parametrize("percent", [-1, 101, True, "5", float("nan")])
def test_a_percentage_that_is_none_is_refused(conn: Connection, lease: Lease, percent: Any) -> None:
    with pytest.raises(InvalidInput, match="percent is"):
        lease().progress(5, percent=percent)
    assert conn.execute("SELECT progress FROM _ayb_jobs").fetchall() == [(None,)]


def _in_a_thread(ctx: JobContext) -> list[Any]:
    done = [ctx.checkpoint, ctx.step("charge", lambda: ctx.attempt)]
    ctx.progress(1, checkpoint={"attempt": ctx.attempt})
    if ctx.attempt == 1:
        raise ValueError("once more")
    return done


async def _on_the_loop(ctx: AsyncJobContext) -> list[Any]:
    async def charge() -> int:
        return ctx.attempt

    done = [await ctx.checkpoint, await ctx.step("charge", charge)]
    await ctx.progress(1, checkpoint={"attempt": ctx.attempt})
    if ctx.attempt == 1:
        raise ValueError("once more")
    return done


@pytest.mark.parametrize("handler", [_in_a_thread, _on_the_loop])
def test_a_second_attempt_skips_the_steps_of_the_first(
    database_url: str, conn: Connection, handler: Callable[..., Any]
) -> None:
    registry = Registry()
    registry.handler("test")(handler)
    make_job(conn)
    with running(database_url, registry, poll_interval_ms=50):
        eventually(lambda: conn.execute("SELECT 1 FROM _ayb_job_executions").fetchone())
        conn.execute("UPDATE _ayb_jobs SET run_at = now()")
        eventually(lambda: conn.execute("SELECT 1 FROM _ayb_job_results").fetchone())
    assert conn.execute("SELECT result FROM _ayb_job_results").fetchall() == [([{"attempt": 1}, 1],)]


def test_steps_are_removed_with_their_job(db: Database, conn: Connection) -> None:
    stays = make_job(conn)
    conn.execute(
        "INSERT INTO _ayb_job_steps (job_id, name, result)"
        " SELECT job_id, number::text, '1' FROM generate_series(1, 1100) AS number,"
        " unnest(ARRAY[%s, gen_random_uuid(), gen_random_uuid()]::uuid[]) AS job_id",
        (stays,),
    )
    told: list[Any] = []
    Pruner(database=db, retention=Retention(), emit=told.append, stopping=threading.Event()).tick()
    assert conn.execute("SELECT DISTINCT job_id::text, count(*) OVER () FROM _ayb_job_steps").fetchall() == [
        (stays, 1100)
    ]
    assert [(event.table, event.rows) for event in told] == [("steps", 2200)]
