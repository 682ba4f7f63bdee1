"""The blocks of docs/handlers.md that do something, with a daemon that runs what they enqueue."""

import asyncio
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import psycopg
import pytest

from ayb_jobs import JobContext, NewJob, Registry, enqueue
from ayb_jobs.process.inside import running_daemon
from ayb_jobs.storage.database import Connection
from tests.docs.reading import ROOT, blocks, prose
from tests.eventually import eventually
from tests.factories import make_job
from tests.running import running

DOCUMENT = ROOT / "docs" / "handlers.md"


def block(words: str) -> str:
    """Return the one Python block that holds these words."""
    (found,) = (one.text for one in blocks(DOCUMENT, "python") if words in one.text)
    return found


def do(text: str, url: str, **names: Any) -> dict[str, Any]:
    """Run a block, and return its names."""
    names = {"URL": url, "psycopg": psycopg, **names}
    exec(compile(text, str(DOCUMENT), "exec"), names)
    return names


def test_a_result_can_be_waited_for(database_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = block("resized = wait_for")
    registry = Registry()

    @registry.handler("resize", max_attempts=1)
    def resize(ctx: JobContext) -> dict[str, Any]:
        return {"height": ctx.payload["width"] * 2}

    with running(database_url, registry):
        assert do(text, database_url)["resized"] == {"height": 200}
        do(
            text.replace('{"width": 100}', "{}").replace('resize", payload', 'resize", max_attempts=1, payload'),
            database_url,
        )
    assert capsys.readouterr().out.startswith("KeyError: 'width'")


def test_a_daemon_runs_inside_ones_own_process(database_url: str, conn: Connection) -> None:
    done: list[str] = []
    registry = Registry()
    registry.handler("send_mail")(lambda ctx: done.append(ctx.job.id))
    made = enqueue(conn, NewJob(type="send_mail"))
    text = block("with running_daemon(").replace("...", "eventually(lambda: done)")
    do(text, database_url, registry=registry, eventually=eventually, done=done)
    assert done == [made.id]


def test_a_daemon_runs_beside_a_fastapi_application(
    database_url: str, conn: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    done: list[str] = []
    registry = Registry()
    registry.handler("send_mail")(lambda ctx: done.append(ctx.job.id))
    with caplog.at_level("INFO", "ayb_jobs"):
        app = do(block("lifespan=lifespan"), database_url, registry=registry, running_daemon=running_daemon)["app"]

        async def life() -> None:
            async with app.router.lifespan_context(app):
                made = enqueue(conn, NewJob(type="send_mail"))
                await asyncio.to_thread(eventually, lambda: done == [made.id])

        asyncio.run(life())
    words = [record.getMessage().split()[0] for record in caplog.records]
    assert words[0] == "daemon.started"
    assert words[-1] == "daemon.stopped"
    assert conn.execute("SELECT count(*) FROM _ayb_job_workers").fetchone() == (0,)


def test_the_steps_and_the_checkpoint_survive_a_failed_attempt(database_url: str, conn: Connection) -> None:
    calls: list[Any] = []
    registry = Registry()

    def once_broken(name: str) -> Any:
        calls.append(name)
        if calls.count(name) == 1 and name in {"ship", 2}:
            raise ConnectionError(name)
        return name

    names = {
        "registry": registry, "JobContext": JobContext, "PAGES": 4, "index": once_broken,
        "charge": lambda *_, key: once_broken("charge") if key else None, "ship": lambda *_: once_broken("ship"),
    }  # fmt: skip
    for words in ('ctx.step("charge"', "page = ctx.checkpoint"):
        do(block(words), database_url, **names)
    make_job(conn, type="order", payload={"card": "1", "address": "a"})
    make_job(conn, type="reindex")
    with running(database_url, registry, poll_interval_ms=50, worker_concurrency=1):

        def ended() -> bool:
            conn.execute("UPDATE _ayb_jobs SET run_at = now() WHERE state = 'queued' AND run_at > now()")
            return conn.execute("SELECT 1 FROM _ayb_jobs WHERE state <> 'completed'").fetchone() is None

        eventually(ended)
    assert sorted(calls, key=str) == [0, 1, 2, 2, 3, "charge", "ship", "ship"]


def test_the_payload_is_validated_within_the_middleware(database_url: str, conn: Connection) -> None:
    posted: list[Any] = []
    order = "0197b1a2-0000-7000-8000-000000000000"
    names = do(
        block("middleware=[timed]"),
        database_url,
        Registry=Registry,
        JobContext=JobContext,
        Any=Any,
        Callable=Callable,
        time=time,
    )
    do(block("class Mail:"), database_url, **names, post=lambda *mail: posted.append(mail), __name__=__name__)
    make_job(conn, type="send_invoice", payload={"to": "ada@example.com", "order": order})
    make_job(conn, type="send_invoice", payload={"to": "ada@example.com"})
    with running(database_url, names["registry"]):
        eventually(lambda: conn.execute("SELECT 1 FROM _ayb_job_executions HAVING count(*) = 2").fetchone())
    assert posted == [("ada@example.com", UUID(order), 1)]
    (error,) = conn.execute("SELECT last_error FROM _ayb_jobs WHERE state = 'failed'").fetchone() or ("",)
    assert f"`{error}`" in prose(DOCUMENT)
