"""A handler's child is the handler's affair: it keeps no dead daemon alive, and no job is settled twice."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ayb_jobs.client.enqueueing import enqueue
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.storage.database import Connection
from tests.acceptance.processes import daemon
from tests.eventually import eventually

HANDLERS = """
import os, sys, time
from ayb_jobs import JobContext, Registry

registry = Registry()

@registry.handler("outlived")
def outlived(ctx: JobContext) -> None:
    if ctx.attempt > 1:
        return
    if os.fork() == 0:
        with open("child.new", "w") as file:
            file.write(str(os.getpid()))
        os.rename("child.new", "child")
        time.sleep(300)
        os._exit(0)
    time.sleep(300)

@registry.handler("forking")
def forking(ctx: JobContext) -> int:
    with ctx.connection() as conn:
        conn.execute("SELECT 1")
    pid = os.fork()
    if pid == 0:
        end = ctx.payload["end"]
        if end == "exit":
            sys.exit(3)
        if end == "raise":
            raise RuntimeError("the child's own")
        return 0
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

@registry.handler("asking")
def asking(ctx: JobContext) -> int:
    with ctx.connection() as conn:
        conn.execute("CREATE TABLE mine (n int)")
        pid = os.fork()
        if pid == 0:
            conn.execute("INSERT INTO mine VALUES (1)")
        os.waitpid(pid, 0)
        conn.execute("INSERT INTO mine VALUES (2)")
    return 1
"""
GUARDED = "SELECT count(*) FROM _ayb_job_workers WHERE guarded"
ENDED = "SELECT outcome, records_processed, error FROM _ayb_job_executions WHERE job_id = %s ORDER BY id"
# Much longer than the test: whoever waits for it has failed.
LEASE_S = 300


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "forking_handlers.py").write_text(HANDLERS)
    return tmp_path


@pytest.fixture
def child(folder: Path) -> Iterator[Path]:
    """The file that holds the number of the handler's child, which is killed at the end."""
    yield folder / "child"
    with suppress(FileNotFoundError, ProcessLookupError):
        os.kill(int((folder / "child").read_text()), signal.SIGKILL)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def test_a_handlers_child_keeps_neither_the_jobs_nor_the_port_of_a_dead_daemon(
    folder: Path, child: Path, database_url: str, conn: Connection
) -> None:
    settings = {"handlers_modules": "forking_handlers", "lease_duration_s": LEASE_S}
    port = free_port()
    job_id = enqueue(conn, NewJob(type="outlived", max_attempts=2)).id
    with daemon(folder, database_url, api_enabled="true", api_port=port, **settings) as victim:
        eventually(child.exists, within_s=60)
        peer_folder = folder / "peer"
        peer_folder.mkdir()
        (peer_folder / "forking_handlers.py").write_text(HANDLERS)
        with daemon(peer_folder, database_url, **settings):
            eventually(lambda: conn.execute(GUARDED).fetchone() == (2,), within_s=60)
            victim.send(signal.SIGKILL)
            victim.wait()
            eventually(lambda: len(conn.execute(ENDED, (job_id,)).fetchall()) == 2, within_s=30)
            with daemon(folder / "again", database_url, api_enabled="true", api_port=port) as again:
                again.await_event("api.started")
        os.kill(int(child.read_text()), 0)  # it lives all the while
        assert [outcome for outcome, _, _ in conn.execute(ENDED, (job_id,))] == ["lost", "completed"]


@pytest.mark.parametrize(("end", "code"), [("exit", 3), ("raise", 1), ("return", 0)])
def test_a_child_that_comes_back_from_its_handler_ends_and_settles_nothing(
    end: str, code: int, folder: Path, database_url: str, conn: Connection
) -> None:
    job_id = enqueue(conn, NewJob(type="forking", payload={"end": end})).id
    with daemon(folder, database_url, handlers_modules="forking_handlers") as running:
        eventually(lambda: conn.execute(ENDED, (job_id,)).fetchall(), within_s=60)
        running.send(signal.SIGTERM)
        assert running.wait() == 0
    assert conn.execute(ENDED, (job_id,)).fetchall() == [("completed", code, None)]
    assert ("the child's own" in running.log_file.read_text()) == (end == "raise")


def test_a_child_cannot_speak_on_its_parents_connection(folder: Path, database_url: str, conn: Connection) -> None:
    job_id = enqueue(conn, NewJob(type="asking")).id
    with daemon(folder, database_url, handlers_modules="forking_handlers"):
        eventually(lambda: conn.execute(ENDED, (job_id,)).fetchall(), within_s=60)
    assert conn.execute(ENDED, (job_id,)).fetchall() == [("completed", 1, None)]
    assert conn.execute("SELECT n FROM mine").fetchall() == [(2,)]
