"""What each handler slot does, as metrics show it."""

import threading
import time

from ayb_jobs.handlers.context import JobContext
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.storage.database import Connection
from tests.eventually import eventually
from tests.factories import make_job
from tests.running import running


def test_slots_are_idle_busy_or_stuck(database_url: str, conn: Connection) -> None:
    finish = threading.Event()
    registry = Registry()

    @registry.handler("patient")
    def patient(_ctx: JobContext) -> None:
        finish.wait(60)

    @registry.handler("deaf", timeout_s=0.1)
    def deaf(_ctx: JobContext) -> None:
        while not finish.is_set():
            time.sleep(0.01)

    with running(database_url, registry, worker_concurrency=3) as there:
        assert there.daemon.slots() == {"idle": 3, "busy": 0, "stuck": 0}
        make_job(conn, type="patient")
        make_job(conn, type="deaf", max_attempts=1)
        eventually(lambda: there.daemon.slots() == {"idle": 1, "busy": 1, "stuck": 1}, within_s=30)
        finish.set()
        eventually(lambda: there.daemon.slots() == {"idle": 3, "busy": 0, "stuck": 0})
