"""SIGHUP has a daemon without a terminal read its settings again, and stops one whose terminal is gone."""

import os
import pty
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ayb_jobs import NewJob, enqueue, enqueue_many
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue.jobs import get_job
from tests.acceptance.processes import DaemonProcess, service, started
from tests.eventually import eventually

SEEN = "SELECT concurrency, queues FROM _ayb_job_workers"
RUNNING = "SELECT id::text FROM _ayb_jobs WHERE state = 'running' AND canceling_lease_id IS NULL ORDER BY id"


def write(folder: Path, *, api_port: int = 8090, level: str = "info", slots: int | None = None, **jobs: Any) -> None:
    """Write the file of a daemon in this folder."""
    lines = "\n".join(f"{key} = {value!r}" for key, value in jobs.items())
    folder.mkdir(exist_ok=True)
    text = f"[jobs]\n{lines}\n[api]\nport = {api_port}\n[log]\nlevel = '{level}'\n"
    text += f"[queues.slow]\nconcurrency = {slots}\n" if slots else ""
    (folder / "ayb-jobs.toml").write_text(text)


# Makes the terminal on its standard input that of its session, and becomes the daemon.
AT_A_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "ayb_jobs", "run"])
"""


@contextmanager
def running_service(folder: Path, url: str) -> Iterator[DaemonProcess]:
    with service(folder, url) as process:
        process.await_event("daemon.started")
        yield process


def reload(process: DaemonProcess, event: str = "daemon.reloaded") -> dict[str, Any]:
    """Send SIGHUP, and return the line that tells of it."""
    before = len(process.events(event))
    process.send(signal.SIGHUP)
    return eventually(lambda: process.events(event)[before:], within_s=20)[0]


def running(conn: Connection) -> list[str]:
    return [job_id for (job_id,) in conn.execute(RUNNING)]


def end(conn: Connection, job_id: str) -> None:
    conn.execute("SELECT ayb_jobs.ayb_jobs_cancel(%s, running => true)", (job_id,))
    eventually(lambda: get_job(conn, job_id).state == "canceled", within_s=20)


def test_concurrency_goes_up_and_down_while_jobs_run_on(tmp_path: Path, database_url: str, conn: Connection) -> None:
    write(tmp_path, worker_concurrency=1)
    jobs = [enqueue(conn, NewJob(type="patient")).id for _ in range(6)]
    with running_service(tmp_path, database_url) as process:
        eventually(lambda: running(conn) == jobs[:1], within_s=20)
        write(tmp_path, worker_concurrency=3)
        assert reload(process)["changed"] == {"jobs.worker_concurrency": 3}
        eventually(lambda: running(conn) == jobs[:3], within_s=20)
        eventually(lambda: conn.execute(SEEN).fetchone() == (3, ["default"]), within_s=20)
        write(tmp_path, worker_concurrency=1)
        reload(process)
        for ended in jobs[:2]:
            end(conn, ended)
        assert running(conn) == jobs[2:3]
        end(conn, jobs[2])
        eventually(lambda: running(conn) == jobs[3:4], within_s=20)
        assert [get_job(conn, job_id).attempts for job_id in jobs] == [1, 1, 1, 1, 0, 0]
        process.send(signal.SIGTERM)
        assert process.wait() == 0
    assert {get_job(conn, job_id).state for job_id in jobs[3:]} == {"queued"}


def test_queues_are_served_and_left(tmp_path: Path, database_url: str, conn: Connection) -> None:
    write(tmp_path, queues=["default"])
    with running_service(tmp_path, database_url) as process:
        added = enqueue(conn, NewJob(type="quick", queue="added")).id
        write(tmp_path, queues=["default", "added"])
        assert reload(process)["changed"] == {"jobs.queues": ["default", "added"]}
        eventually(lambda: get_job(conn, added).state == "completed", within_s=20)
        write(tmp_path, queues=["added"])
        reload(process)
        eventually(lambda: conn.execute("SELECT queues FROM _ayb_job_workers").fetchone() == (["added"],), within_s=20)
        left = enqueue(conn, NewJob(type="quick")).id
        served = enqueue(conn, NewJob(type="quick", queue="added")).id
        eventually(lambda: get_job(conn, served).state == "completed", within_s=20)
        assert get_job(conn, left).state == "queued"


def test_the_slots_of_a_queue_become_more_and_fewer(tmp_path: Path, database_url: str, conn: Connection) -> None:
    write(tmp_path, queues=["slow"], slots=1)
    jobs = [enqueue(conn, NewJob(type="patient", queue="slow")).id for _ in range(6)]
    with running_service(tmp_path, database_url) as process:
        eventually(lambda: running(conn) == jobs[:1], within_s=20)
        write(tmp_path, queues=["slow"], slots=3)
        assert reload(process)["changed"] == {"queues.slow.concurrency": 3}
        eventually(lambda: running(conn) == jobs[:3], within_s=20)
        write(tmp_path, queues=["slow"], slots=2)
        reload(process)
        for ended in jobs[:2]:
            end(conn, ended)
        eventually(lambda: running(conn) == jobs[2:4], within_s=20)
        write(tmp_path, queues=["slow"])
        assert reload(process)["changed"] == {"queues.slow.concurrency": None}
        eventually(lambda: len(running(conn)) == 4, within_s=20)
        assert process.events("daemon.needs_restart") == []


def test_the_log_tells_more_and_less(tmp_path: Path, database_url: str, conn: Connection) -> None:
    write(tmp_path, level="warning")
    with service(tmp_path, database_url) as process:  # it says nothing as it starts
        eventually(lambda: conn.execute(SEEN).fetchone(), within_s=20)
        first = enqueue(conn, NewJob(type="quick")).id
        eventually(lambda: get_job(conn, first).state == "completed", within_s=20)
        write(tmp_path, level="debug")
        assert reload(process)["changed"] == {"log.level": "debug"}
        second = enqueue(conn, NewJob(type="quick")).id
        eventually(lambda: process.events("job.completed"), within_s=20)
        assert [line["job_id"] for line in process.events("job.completed")] == [second]
        assert process.events("jobs.leased")


def test_jobs_run_once_while_the_settings_change_all_the_time(
    tmp_path: Path, database_url: str, conn: Connection
) -> None:
    write(tmp_path, worker_concurrency=4)
    enqueue_many(conn, [NewJob(type="quick", payload={"s": 0.005}) for _ in range(1500)])
    with running_service(tmp_path, database_url) as process:
        for concurrency in (1, 9, 2, 6, 1, 12, 3):
            write(tmp_path, worker_concurrency=concurrency)
            reload(process)
        done = "SELECT count(*), max(attempts) FROM _ayb_jobs WHERE state = 'completed'"
        eventually(lambda: conn.execute(done).fetchone() == (1500, 1), within_s=60)
        enqueue_many(conn, [NewJob(type="patient") for _ in range(9)])
        eventually(lambda: len(running(conn)) == 3, within_s=20)
        process.send(signal.SIGTERM)
        assert process.wait() == 0
    assert conn.execute("SELECT count(*) FROM _ayb_job_executions").fetchone() == (1500,)


FAULTY = {
    "[jobs]\nworker_concurrency = 0\nqueues = ['added']\n": "jobs.worker_concurrency",
    "[jobs]\nqueues = []\n": "jobs.queues",
    "[jobs\n": "ayb-jobs.toml",
}


def test_a_file_that_is_gone_changes_nothing_and_is_told(tmp_path: Path, database_url: str, conn: Connection) -> None:
    write(tmp_path, worker_concurrency=2, queues=["default", "added"])
    file, aside = tmp_path / "ayb-jobs.toml", tmp_path / "aside"
    with running_service(tmp_path, database_url) as process:
        file.rename(aside)
        assert reload(process, "daemon.reload_refused")["problems"] == [
            "ayb-jobs.toml is not there, and the settings came from it; put it back, or restart to do without it"
        ]
        aside.rename(file)
        assert reload(process)["changed"] == {}
        assert conn.execute(SEEN).fetchone() == (2, ["default", "added"])
        assert process.events("daemon.needs_restart") == []


def test_a_file_that_says_nothing_changes_nothing_and_is_told(
    tmp_path: Path, database_url: str, conn: Connection
) -> None:
    write(tmp_path, worker_concurrency=2, queues=["default", "added"])
    file = tmp_path / "ayb-jobs.toml"
    whole = file.read_text()
    with running_service(tmp_path, database_url) as process:
        for text in ("", "\n# all to come\n"):
            file.write_text(text)
            assert reload(process, "daemon.reload_refused")["problems"] == [
                "ayb-jobs.toml is empty, and settings came from it; put them back, or restart to do without them"
            ]
        file.write_text(whole)
        assert reload(process)["changed"] == {}
        assert conn.execute(SEEN).fetchone() == (2, ["default", "added"])


def test_a_faulty_file_changes_nothing_and_is_told_in_one_line_that_names_the_field(
    tmp_path: Path, database_url: str, conn: Connection
) -> None:
    write(tmp_path, worker_concurrency=2)
    with running_service(tmp_path, database_url) as process:
        for text, told in FAULTY.items():
            (tmp_path / "ayb-jobs.toml").write_text(text)
            (problem,) = reload(process, "daemon.reload_refused")["problems"]
            assert told in problem
        job = enqueue(conn, NewJob(type="quick")).id
        eventually(lambda: get_job(conn, job).state == "completed", within_s=20)
        assert conn.execute(SEEN).fetchone() == (2, ["default"])
        assert process.events("daemon.reloaded") == []


def test_what_needs_a_restart_is_named_and_the_rest_changes(
    tmp_path: Path, database_url: str, conn: Connection
) -> None:
    write(tmp_path, worker_concurrency=2)
    with running_service(tmp_path, database_url) as process:
        write(tmp_path, worker_concurrency=3, poll_interval_ms=500, api_port=8099)
        assert reload(process)["changed"] == {"jobs.worker_concurrency": 3}
        assert process.await_event("daemon.needs_restart")["settings"] == ["api.port", "jobs.poll_interval_ms"]
        eventually(lambda: conn.execute(SEEN).fetchone() == (3, ["default"]), within_s=20)
        assert reload(process)["changed"] == {}


def test_a_daemon_whose_terminal_closes_stops(tmp_path: Path, database_url: str, conn: Connection) -> None:
    terminal, end_of_daemon = pty.openpty()
    command = [sys.executable, "-c", AT_A_TERMINAL]
    with started(tmp_path, database_url, command, {}, start_new_session=True, stdin=end_of_daemon) as process:
        os.close(end_of_daemon)
        process.await_event("daemon.started")
        job = enqueue(conn, NewJob(type="patient")).id
        eventually(lambda: running(conn) == [job], within_s=20)
        os.close(terminal)
        assert process.wait() == 0
        assert process.events("daemon.stopping")[0]["reason"] == "SIGHUP"
    assert (get_job(conn, job).state, get_job(conn, job).attempts) == ("queued", 0)
