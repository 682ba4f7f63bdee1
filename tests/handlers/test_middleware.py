"""Functions around handlers, each around those of its own kind."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from ayb_jobs import AsyncJobContext, InvalidInput, JobContext, Registry
from ayb_jobs.storage.database import Connection
from tests.eventually import eventually
from tests.factories import make_job
from tests.handlers.conftest import Lease
from tests.running import running


def around(name: str, calls: list[str]) -> Callable[..., Any]:
    def plain(ctx: JobContext, call: Callable[[], Any]) -> Any:
        calls.append(f"{name} begins")
        try:
            return call()
        finally:
            calls.append(f"{name} ends")

    return plain


def around_async(name: str, calls: list[str]) -> Callable[..., Any]:
    async def awaiting(ctx: AsyncJobContext, call: Callable[[], Any]) -> Any:
        calls.append(f"{name} begins")
        await asyncio.sleep(0)
        try:
            return await call()
        finally:
            calls.append(f"{name} ends")

    return awaiting


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_each_is_around_the_handlers_of_its_kind_the_first_outermost(
    database_url: str, conn: Connection, kind: str
) -> None:
    calls: list[str] = []
    registry = Registry(
        middleware=[around("1", calls), around_async("a", calls), around("2", calls), around_async("b", calls)]
    )

    def plain(ctx: JobContext) -> str:
        calls.append("runs")
        return "plain"

    async def asynchronous(ctx: AsyncJobContext) -> str:
        calls.append("runs")
        return "async"

    registry.handler("plain")(plain)
    registry.handler("async")(asynchronous)
    make_job(conn, type=kind)
    with running(database_url, registry):
        eventually(lambda: conn.execute("SELECT 1 FROM _ayb_job_results").fetchone())
    outer, inner = ("1", "2") if kind == "plain" else ("a", "b")
    assert calls == [f"{outer} begins", f"{inner} begins", "runs", f"{inner} ends", f"{outer} ends"]
    assert conn.execute("SELECT result FROM _ayb_job_results").fetchall() == [(kind,)]


def test_what_it_returns_or_raises_is_how_the_attempt_ends(lease: Lease) -> None:
    def refuses(ctx: JobContext, call: Callable[[], Any]) -> Any:
        if ctx.payload == "other":
            return {"instead": True}
        raise PermissionError(call())

    registry = Registry(middleware=[refuses])
    registry.handler("test")(lambda _: "mine")
    job_type = registry.get("test")
    assert job_type is not None
    assert job_type.run(lease(payload='"other"')) == {"instead": True}
    with pytest.raises(PermissionError, match="mine"):
        job_type.run(lease(payload='"more"'))


def test_what_is_no_function_is_refused() -> None:
    name: Any = "timed"
    with pytest.raises(InvalidInput, match="middleware 'timed' is no function"):
        Registry(middleware=[name])


def test_a_handler_without_any_is_run_as_it_is() -> None:
    def handle(ctx: JobContext) -> None: ...

    registry = Registry()
    registry.handler("test")(handle)
    job_type = registry.get("test")
    assert job_type is not None
    assert job_type.run is handle
