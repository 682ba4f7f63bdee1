"""What an application calls on its own connection means PostgreSQL's own operators and functions, and nobody else's."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta

import psycopg
import pytest

from ayb_jobs import (
    NewJob,
    Unique,
    WaitTimedOut,
    batch,
    batch_async,
    enqueue,
    enqueue_async,
    enqueue_many,
    enqueue_many_async,
    request_cancel,
    request_cancel_async,
    wait_for,
    wait_for_async,
)
from ayb_jobs.client import steps
from ayb_jobs.errors import Conflict
from ayb_jobs.storage.database import Connection
from tests.client.connections import DRIVERS, Calling, calling
from tests.traps import traps


@pytest.fixture
def trapped(conn: Connection, database_url: str) -> Iterator[str]:
    """The address of a database with traps in a schema of everybody's search path."""
    with traps(conn):
        yield database_url


@pytest.fixture(params=[True, False], ids=["ids-by-server", "ids-by-statement"])
def ids_by_server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the statements are those for servers that make ids by themselves; older ones run everywhere."""
    if not request.param:
        monkeypatch.setattr(steps, "MAKES_IDS_ITSELF", 10**9)
    return bool(request.param)


def asked(parent: str) -> list[NewJob]:
    """Return a job of each sort that an enqueue knows."""
    return [
        NewJob(type="later"),
        NewJob(type="later", delay=timedelta(days=1)),
        NewJob(type="later", idempotency_key="k"),
        NewJob(type="later", limit_key="l"),
        NewJob(type="later", payload={"a": 1}, unique=Unique(by=["a"])),
        NewJob(type="later", unique=Unique(key="v", on_conflict="debounce"), delay=timedelta(days=1)),
        NewJob(type="later", depends_on=[parent]),
        NewJob(type="later", depends_on=[parent], limit_key="l"),
    ]


@pytest.mark.usefixtures("ids_by_server")
def test_every_call_means_built_in_operators(trapped: str) -> None:
    with psycopg.connect(trapped, autocommit=True) as own:
        first = enqueue(own, NewJob(type="later", idempotency_key="first"))
        assert enqueue(own, NewJob(type="later", idempotency_key="first")).id == first.id
        for each in asked(first.id):
            enqueue(own, each)
        assert enqueue_many(own, asked(first.id)) > 0
        with batch(own, on_done=NewJob(type="done")) as some:
            some.enqueue(NewJob(type="later"))
            some.enqueue_many(each for each in asked(first.id) if each.unique is None)
        with pytest.raises(WaitTimedOut):
            wait_for(own, first.id, timeout_s=0)
        assert request_cancel(own, first.id) == "canceled"
        with pytest.raises(Conflict, match="is canceled"):
            request_cancel(own, first.id)


def test_every_asynchronous_call_means_built_in_operators(trapped: str) -> None:
    async def run() -> None:
        async with await psycopg.AsyncConnection.connect(trapped, autocommit=True) as own:
            first = await enqueue_async(own, NewJob(type="later", idempotency_key="first"))
            assert (await enqueue_async(own, NewJob(type="later", idempotency_key="first"))).id == first.id
            for each in asked(first.id):
                await enqueue_async(own, each)
            assert await enqueue_many_async(own, asked(first.id)) > 0
            async with batch_async(own, on_done=NewJob(type="done")) as some:
                await some.enqueue(NewJob(type="later"))
                await some.enqueue_many(each for each in asked(first.id) if each.unique is None)
            with pytest.raises(WaitTimedOut):
                await wait_for_async(own, first.id, timeout_s=0)
            assert await request_cancel_async(own, first.id) == "canceled"

    asyncio.run(run())


@pytest.mark.parametrize("driver", [one for one in DRIVERS if not one.startswith("psycopg")])
@pytest.mark.usefixtures("ids_by_server")
def test_the_calls_by_every_driver_mean_built_in_operators(database_url: str, conn: Connection, driver: str) -> None:
    def calls(on: Calling) -> None:
        on.enqueue_many(
            [NewJob(type="earlier", idempotency_key="earlier")]
        )  # asyncpg asks what an array is, by a statement that is not ours
        with traps(conn):
            trapped_calls(on)

    def trapped_calls(on: Calling) -> None:
        first = on.enqueue(NewJob(type="later", idempotency_key="first"))
        assert on.enqueue(NewJob(type="later", idempotency_key="first")).id == first.id
        for each in asked(first.id):
            on.enqueue(each)
        assert on.enqueue_many(asked(first.id)) > 0
        on.batch([each for each in asked(first.id) if each.unique is None], on_done=NewJob(type="done"))
        on.request_cancel(first.id)
        with pytest.raises(Conflict, match="is canceled"):
            on.request_cancel(first.id)

    calling(driver, database_url, calls)
