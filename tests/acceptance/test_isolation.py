"""Isolated handlers of a real daemon: no child outlives it, and its log tells what they say."""

import os
import signal
from functools import partial
from pathlib import Path

from ayb_jobs.client.enqueueing import enqueue
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.storage.database import Connection
from tests.acceptance.processes import daemon
from tests.eventually import eventually
from tests.running import running

HANDLERS = """
import logging, os, re
from pathlib import Path
from ayb_jobs import JobContext, Registry

registry = Registry()

@registry.handler("endless", isolation="process")
def endless(ctx: JobContext) -> None:
    ctx.log.info("about.to.hang", way="regex")
    logging.getLogger("mine").warning("a library says so")
    forked = os.fork()
    if forked == 0:
        while True:
            re.match(r"(a+)+$", "a" * 64 + "b")
    Path("pids.new").write_text(f"{os.getpid()} {forked} {os.getppid()}")
    os.rename("pids.new", "pids")
    re.match(r"(a+)+$", "a" * 64 + "b")

@registry.handler("leaving")
def leaving(ctx: JobContext) -> None:
    while not Path("pids").exists():
        ctx.stopping.wait(0.02)
    if os.fork() == 0:
        Path("left.new").write_text(str(os.getpid()))
        os.rename("left.new", "left")
        ctx.stopping.wait(60)
        os._exit(0)

@registry.handler("regex")
def regex(ctx: JobContext) -> None:
    while not Path("begun").exists():
        pass
    re.match(r"(a+)+$", "a" * 64 + "b")

@registry.handler("innocent")
def innocent(ctx: JobContext) -> None:
    Path("begun").touch()
    ctx.stopping.wait()

@registry.handler("obedient", isolation="process")
def obedient(ctx: JobContext) -> None:
    Path("begun").touch()
    ctx.stopping.wait()
    ctx.check()
"""
ENDED = "SELECT state, attempts, crashes FROM _ayb_jobs WHERE id = %s"
DUE_NOW = "UPDATE _ayb_jobs SET run_at = now() WHERE id = %s"  # in place of waiting for the backoff
TERMINATE = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


def is_queued_again(conn: Connection, job_id: str) -> bool:
    return conn.execute(ENDED, (job_id,)).fetchone() == ("queued", 1, 1)


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_thread_that_holds_the_interpreter_costs_an_attempt_of_each_job_of_its_daemon_until_a_peer_has_them(
    tmp_path: Path, database_url: str, conn: Connection
) -> None:
    (tmp_path / "isolated_handlers.py").write_text(HANDLERS)
    poison, innocent = (enqueue(conn, NewJob(type=job_type)).id for job_type in ("regex", "innocent"))
    registry = Registry()
    registry.handler("innocent")(lambda _: None)
    with daemon(tmp_path, database_url, handlers_modules="isolated_handlers", worker_concurrency=2) as held:
        eventually((tmp_path / "begun").exists, within_s=60)
        with running(database_url, registry):
            for lost in (innocent, poison):
                eventually(partial(is_queued_again, conn, lost), within_s=60)
            conn.execute(DUE_NOW, (innocent,))
            eventually(lambda: conn.execute(ENDED, (innocent,)).fetchone() == ("completed", 2, 1), within_s=60)
        held.send(signal.SIGKILL)  # no other signal is heard while the expression is matched


def test_a_stop_right_after_all_connections_were_terminated_gives_the_job_back_with_its_attempt(
    tmp_path: Path, database_url: str, conn: Connection
) -> None:
    (tmp_path / "isolated_handlers.py").write_text(HANDLERS)
    job_id = enqueue(conn, NewJob(type="obedient", max_attempts=1)).id
    with daemon(tmp_path, database_url, handlers_modules="isolated_handlers") as stopped:
        eventually((tmp_path / "begun").exists, within_s=60)
        conn.execute(TERMINATE)
        stopped.send(signal.SIGTERM)
        assert stopped.wait() == 0
    assert conn.execute(ENDED, (job_id,)).fetchone() == ("queued", 0, 0)


def test_a_killed_daemon_leaves_no_child_not_even_one_that_never_lets_python_run_nor_what_forked_it(
    tmp_path: Path, database_url: str, conn: Connection
) -> None:
    (tmp_path / "isolated_handlers.py").write_text(HANDLERS)
    enqueue(conn, NewJob(type="endless"))
    with daemon(
        tmp_path, database_url, handlers_modules="isolated_handlers", process_concurrency=2, lease_duration_s=300
    ) as victim:
        eventually((tmp_path / "pids").exists, within_s=60)
        pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
        line = victim.await_event("about.to.hang")
        assert (line["way"], line["job_type"], line["attempt"]) == ("regex", "endless", 1)
        assert victim.await_event("library.message")["message"] == "a library says so"
        assert all(runs(pid) for pid in pids)
        victim.send(signal.SIGKILL)
        victim.wait()
        eventually(lambda: not any(runs(pid) for pid in pids), within_s=5)


def test_what_another_handler_left_behind_keeps_no_child_of_a_killed_daemon_alive(
    tmp_path: Path, database_url: str, conn: Connection
) -> None:
    (tmp_path / "isolated_handlers.py").write_text(HANDLERS)
    for job_type in ("endless", "leaving"):
        enqueue(conn, NewJob(type=job_type))
    with daemon(
        tmp_path, database_url, handlers_modules="isolated_handlers", process_concurrency=1, lease_duration_s=300
    ) as victim:
        eventually((tmp_path / "left").exists, within_s=60)
        left = int((tmp_path / "left").read_text())
        pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
        victim.send(signal.SIGKILL)
        victim.wait()
        eventually(lambda: not any(runs(pid) for pid in pids), within_s=5)
        assert runs(left)
        os.kill(left, signal.SIGKILL)
