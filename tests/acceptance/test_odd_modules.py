"""Modules of handlers that change the process: what cannot work is refused at the start, and nothing hangs for ever."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ayb_jobs.cli.exits import ExitCode
from ayb_jobs.client.enqueueing import enqueue
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.storage.database import Connection
from tests.cli.processes import PROGRAM, environment
from tests.eventually import eventually

PATCHED = """
from gevent import monkey
monkey.patch_all({options})

from ayb_jobs import Registry
registry = Registry()

@registry.handler("sleepy")
def sleepy(ctx):
    import time
    time.sleep(0.01)
"""
BUSY = """
import threading, time
from ayb_jobs import Registry
registry = Registry()

threading.Thread(target=lambda: time.sleep(600), name="feeder").start()

@registry.handler("quick")
def quick(ctx):
    pass
"""
# The child holds neither of the program's streams, which the test reads to their end, and ends once the program has.
PARENT = """
import multiprocessing, os
from ayb_jobs import Registry
registry = Registry()
reading, writing = os.pipe()

def feed():
    for each in (1, 2, writing):
        os.close(each)
    os.read(reading, 1)

multiprocessing.get_context("fork").Process(target=feed, name="feeder").start()

@registry.handler("quick")
def quick(ctx):
    pass
"""


@contextmanager
def started(folder: Path, module: str, *command: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
    """Run a program beside this module of handlers; what still runs at the end is killed."""
    (folder / "odd_handlers.py").write_text(module)
    settings = {
        "AYB_JOBS_ENABLED": "true",
        "AYB_JOBS_HANDLERS_MODULES": "odd_handlers",
        "AYB_JOBS_API_ENABLED": "false",
    }
    with subprocess.Popen(
        [*command],
        cwd=folder,
        env=environment(settings | environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        try:
            yield program
        finally:
            program.kill()


@pytest.mark.parametrize("options", ["", "thread=False"])
@pytest.mark.parametrize("command", ["check-config", "run"])
def test_patching_by_gevent_at_the_head_of_a_module_is_refused_at_the_start(
    command: str, options: str, tmp_path: Path
) -> None:
    with started(tmp_path, PATCHED.format(options=options), str(PROGRAM), command) as program:
        out, err = program.communicate(timeout=60)
    assert (program.returncode, out) == (ExitCode.CONFIG, "")
    assert err.startswith(
        "ayb-jobs: handlers.modules cannot be used: odd_handlers replaces Python's threads or waiting by gevent's"
    )
    assert len(err.splitlines()) == 1


def test_a_daemon_that_is_patched_first_runs_jobs_and_stops(
    tmp_path: Path, database_url: str, conn: Connection
) -> None:
    for _ in range(20):
        enqueue(conn, NewJob(type="sleepy"))
    command = (sys.executable, "-m", "gevent.monkey", str(PROGRAM), "run")
    done = "SELECT count(*) FROM _ayb_jobs WHERE state = 'completed'"
    with started(tmp_path, PATCHED.format(options=""), *command, AYB_JOBS_DATABASE_URL=database_url) as program:
        eventually(lambda: conn.execute(done).fetchone() == (20,), within_s=60)
        program.send_signal(signal.SIGTERM)
        _, err = program.communicate(timeout=60)
    assert (program.returncode, "Traceback" in err) == (0, False), err


@pytest.mark.parametrize(("module", "what"), [(BUSY, "threads"), (PARENT, "processes")])
def test_a_thread_or_process_without_end_does_not_keep_check_config(module: str, what: str, tmp_path: Path) -> None:
    with started(tmp_path, module, str(PROGRAM), "check-config") as program:
        out, err = program.communicate(timeout=60)
    assert program.returncode == 0
    assert '"odd_handlers"' in out
    assert err.splitlines() == [
        "All is well.",
        f"ayb-jobs: ended without {what} that do not end, begun by the application: feeder",
    ]


@pytest.mark.parametrize("module", [BUSY, PARENT])
def test_a_thread_or_process_without_end_does_not_keep_a_stopped_daemon(
    module: str, tmp_path: Path, database_url: str, conn: Connection
) -> None:
    enqueue(conn, NewJob(type="quick"))
    with started(tmp_path, module, str(PROGRAM), "run", AYB_JOBS_DATABASE_URL=database_url) as program:
        eventually(lambda: conn.execute("SELECT state FROM _ayb_jobs").fetchone() == ("completed",), within_s=60)
        program.send_signal(signal.SIGTERM)
        _, err = program.communicate(timeout=60)
    assert program.returncode == 0
    assert err.splitlines()[-1].endswith("begun by the application: feeder")
