"""Handlers and neighbours that spoil the daemon's standard streams."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ayb_jobs.client.enqueueing import enqueue
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.storage.database import Connection
from tests.acceptance.processes import executed
from tests.eventually import eventually

HANDLERS = """
import io, os, sys
from ayb_jobs import JobContext, Registry

registry = Registry()

def close():
    sys.stdout.close()
    sys.stderr.close()

def replace():
    sys.stdout, sys.stderr = io.StringIO(), object()

def forget():
    sys.stdout = sys.stderr = None

def close_descriptors():
    os.close(1)
    os.close(2)

@registry.handler("spoil")
def spoil(ctx: JobContext) -> None:
    globals()[ctx.payload["how"]]()
"""
STATES = "SELECT state FROM _ayb_jobs"


@pytest.mark.parametrize("how", ["close", "replace", "forget", "close_descriptors"])
def test_a_handler_that_spoils_the_standard_streams_does_not_spoil_a_clean_stop(
    tmp_path: Path, database_url: str, conn: Connection, how: str
) -> None:
    (tmp_path / "spoiling_handlers.py").write_text(HANDLERS)
    enqueue(conn, NewJob(type="spoil", payload={"how": how}))
    with executed(tmp_path, database_url, handlers_modules="spoiling_handlers") as running:
        eventually(lambda: conn.execute(STATES).fetchone() == ("completed",), within_s=60)
        running.send(signal.SIGTERM)
        assert running.wait(60) == 0
    assert running.events("daemon.stopped"), running.log_file.read_text()


@pytest.mark.parametrize("redirection", [">&- 2>&- <&-", ">/dev/full 2>/dev/full"])
def test_a_daemon_runs_and_stops_cleanly_without_standard_streams(
    tmp_path: Path, database_url: str, conn: Connection, redirection: str
) -> None:
    (tmp_path / "printing_handlers.py").write_text(
        "from ayb_jobs import Registry\nregistry = Registry()\n"
        "@registry.handler('printing')\ndef printing(ctx):\n    print('x' * 100_000, flush=True)\n"
    )
    enqueue(conn, NewJob(type="printing"))
    environ = {
        "AYB_JOBS_ENABLED": "true",
        "AYB_JOBS_DATABASE_URL": database_url,
        "AYB_JOBS_HANDLERS_MODULES": "printing_handlers",
        "AYB_JOBS_API_ENABLED": "false",
    }
    command = ["bash", "-c", f"exec '{sys.executable}' -m ayb_jobs run {redirection}"]
    with subprocess.Popen(command, cwd=tmp_path, env=environ) as process:
        try:
            eventually(lambda: conn.execute(STATES).fetchone() == ("completed",), within_s=60)
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        finally:
            process.kill()
