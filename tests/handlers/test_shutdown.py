"""A cleanup that a daemon's stop interrupts is finished by the next daemon, and has cost no attempt."""

from collections.abc import Callable
from pathlib import Path

import pytest
import structlog

from ayb_jobs.client.enqueueing import enqueue
from ayb_jobs.config import load_config
from ayb_jobs.daemon.daemon import Daemon
from ayb_jobs.daemon.identity import new_worker_id
from ayb_jobs.events import Events
from ayb_jobs.handlers.kinds.table import KINDS
from ayb_jobs.handlers.packs import build_registry
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.storage.database import Connection
from tests.eventually import eventually

CLEANUP = """
    [job_types.empty_things]
    delete_from = "things"
    where = "true"
    batch_size = {batch_size}
"""


@pytest.fixture
def new_daemon(tmp_path: Path, database_url: str) -> Callable[[int], Daemon]:
    def build(batch_size: int) -> Daemon:
        file = tmp_path / "ayb-jobs.toml"
        file.write_text(CLEANUP.format(batch_size=batch_size))
        config = load_config(file, kinds=KINDS)
        return Daemon(
            config=config,
            url=database_url,
            registry=build_registry(config),
            events=Events(),
            worker_id=new_worker_id(),
            logger=structlog.wrap_logger(structlog.PrintLogger(), processors=[structlog.processors.JSONRenderer()]),
        )

    return build


def count(conn: Connection, query: str) -> int:
    row = conn.execute(query).fetchone()
    assert row is not None
    return int(row[0])


def test_a_stop_gives_the_attempt_back_and_the_next_daemon_goes_on(
    conn: Connection, new_daemon: Callable[[int], Daemon]
) -> None:
    conn.execute("CREATE TABLE things AS SELECT i AS id, repeat('x', 200) AS filler FROM generate_series(1, 20000) i")
    enqueue(conn, NewJob(type="empty_things", max_attempts=1))
    daemon = new_daemon(20)
    daemon.start()
    eventually(lambda: count(conn, "SELECT count(*) FROM things") < 20000)
    assert daemon.stop() == 0
    left = count(conn, "SELECT count(*) FROM things")
    assert 0 < left < 20000
    assert conn.execute("SELECT state, attempts, max_attempts, last_error FROM _ayb_jobs").fetchall() == [
        ("queued", 0, 1, None)
    ]
    daemon = new_daemon(100_000)
    daemon.start()
    eventually(lambda: count(conn, "SELECT count(*) FROM _ayb_jobs WHERE state = 'completed'"))
    daemon.stop()
    assert count(conn, "SELECT count(*) FROM things") == 0
    assert count(conn, "SELECT records_processed FROM _ayb_job_executions WHERE outcome = 'completed'") == left
