"""Handlers that run in their slot's thread."""

import threading

import pytest

from ayb_jobs.client.enqueueing import enqueue, enqueue_many
from ayb_jobs.handlers.context import JobContext
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.runtime.executors.threads import exit_code
from ayb_jobs.storage.database import Connection
from tests.eventually import eventually
from tests.running import running


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (None, 0, ""),
        (SystemExit(), 0, ""),
        (SystemExit(3), 3, ""),
        (SystemExit(-1), 255, ""),
        (SystemExit("no more"), 1, "no more\n"),
        (RuntimeError("broken"), 1, "RuntimeError: broken\n"),
    ],
)
def test_a_child_ends_as_a_script_does(
    error: BaseException | None, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(error) == code
    assert capsys.readouterr().err == said


def test_an_endless_loop_costs_its_slot_and_its_own_attempts_and_no_other_job(
    database_url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ayb_jobs.daemon.build.stopping_s", lambda *_: 0.2)
    over = threading.Event()
    registry = Registry()

    @registry.handler("endless", timeout_s=0.2)
    def endless(_: JobContext) -> None:
        while not over.is_set():
            pass

    registry.handler("innocent")(lambda _: None)
    poison = enqueue(conn, NewJob(type="endless", priority=1, max_attempts=1)).id
    with running(database_url, registry, worker_concurrency=2) as daemon:
        eventually(lambda: daemon.daemon.slots()["stuck"] == 1)
        enqueue_many(conn, [NewJob(type="innocent") for _ in range(100)])
        completed = "SELECT count(*) FROM _ayb_jobs WHERE type = 'innocent' AND state = 'completed' AND attempts = 1"
        eventually(lambda: conn.execute(completed).fetchone() == (100,), within_s=30)
        assert daemon.daemon.slots() == {"idle": 1, "busy": 0, "stuck": 1}
        over.set()
    ended = "SELECT state, attempts, crashes FROM _ayb_jobs WHERE id = %s"
    assert conn.execute(ended, (poison,)).fetchone() == ("failed", 1, 0)
