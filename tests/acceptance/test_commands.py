"""Commands and the life of their daemon: nothing of them outlives it, and a stop gives their attempts back."""

import os
import signal
from pathlib import Path

import pytest

from ayb_jobs.client.enqueueing import enqueue, enqueue_many
from ayb_jobs.config import load_config
from ayb_jobs.handlers.kinds.table import KINDS
from ayb_jobs.handlers.packs import build_registry
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.storage.database import Connection
from tests.acceptance.processes import daemon
from tests.eventually import eventually
from tests.running import running

# Each writes its process's number, then that of a child; none of them ends by itself.
TYPES = """
[job_types.obedient]
exec = ["/bin/sh", "-c", "echo $$ >> pids; sleep 300 & echo $! >> pids; wait"]

[job_types.stubborn]
exec = ["/bin/sh", "-c", "trap '' TERM HUP; echo $$ >> pids; sleep 300 & echo $! >> pids; while :; do sleep 1; done"]
"""
POISON = """
[job_types.innocent]
exec = ["true"]

[job_types.deaf]
exec = ["/bin/sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"]
timeout_s = 0.3
grace_s = 0.2

[job_types.stays]
exec = ["/bin/sh", "-c", "(trap '' TERM HUP; sleep 300; sleep 300) & exit 3"]

[job_types.bomb]
exec = ["python3", "-c", "x = bytearray(10**10)"]
max_memory_mb = 300

[job_types.flood]
exec = ["/bin/sh", "-c", "yes | head -c 100000000; exit 4"]

[job_types.crash]
exec = ["/bin/sh", "-c", "kill -SEGV $$"]
"""
ENDED = "SELECT type, outcome, split_part(error, E'\\n', 1) FROM _ayb_job_executions JOIN _ayb_jobs ON job_id = _ayb_jobs.id"


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def begun(folder: Path, count: int) -> list[int]:
    """Wait until so many processes run, and return their numbers."""

    def found() -> list[int]:
        file = folder / "pids"
        return [int(line) for line in file.read_text().split()] if file.exists() else []

    return eventually(lambda: found() if len(found()) >= count else [], within_s=40)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "ayb-jobs.toml").write_text(TYPES)
    return tmp_path


@pytest.mark.parametrize("job_type", ["obedient", "stubborn"])
def test_no_command_outlives_a_daemon_that_is_killed_and_its_job_runs_again(
    folder: Path, database_url: str, conn: Connection, job_type: str
) -> None:
    enqueue(conn, NewJob(type=job_type))
    with daemon(folder, database_url) as first:
        pids = begun(folder, 2)
        assert all(lives(pid) for pid in pids)
        first.send(signal.SIGKILL)
        first.wait()
    eventually(lambda: not any(lives(pid) for pid in pids), within_s=20)
    with daemon(folder, database_url) as second:
        again = begun(folder, 4)[2:]
        second.send(signal.SIGKILL)
    eventually(lambda: not any(lives(pid) for pid in again), within_s=20)
    assert conn.execute("SELECT attempts, crashes FROM _ayb_jobs").fetchall() == [(2, 1)]


def test_no_command_outlives_a_daemon_that_a_child_of_a_handler_outlives(
    folder: Path, database_url: str, conn: Connection
) -> None:
    (folder / "forking_handlers.py").write_text(
        "import os, time\n"
        "from ayb_jobs import Registry\n"
        "registry = Registry()\n"
        "@registry.handler('forking')\n"
        "def forking(ctx):\n"
        "    if os.fork() == 0:\n"
        "        with open('child', 'w') as file:\n"
        "            file.write(str(os.getpid()))\n"
        "        time.sleep(300)\n"
        "        os._exit(0)\n"
        "    time.sleep(300)\n"
    )
    enqueue(conn, NewJob(type="obedient"))
    with daemon(folder, database_url, handlers_modules="forking_handlers") as process:
        pids = begun(folder, 2)
        enqueue(conn, NewJob(type="forking"))
        child = int(eventually(lambda: (folder / "child").exists() and (folder / "child").read_text(), within_s=40))
        process.send(signal.SIGKILL)
    eventually(lambda: not any(lives(pid) for pid in pids), within_s=20)
    assert lives(child)
    os.kill(child, signal.SIGKILL)


def test_a_stop_ends_commands_and_gives_their_attempts_back(folder: Path, database_url: str, conn: Connection) -> None:
    enqueue_many(conn, [NewJob(type="obedient"), NewJob(type="stubborn")])
    with daemon(folder, database_url, shutdown_timeout_s="3") as process:
        pids = begun(folder, 4)
        process.send(signal.SIGTERM)
        assert process.wait() == 0
    assert not any(lives(pid) for pid in pids)
    query = "SELECT type, state, attempts, crashes, worker_id FROM _ayb_jobs ORDER BY type"
    assert conn.execute(query).fetchall() == [("obedient", "queued", 0, 0, None), ("stubborn", "queued", 0, 0, None)]


def test_commands_that_misbehave_cost_their_own_attempts_and_nothing_else(
    tmp_path: Path, database_url: str, conn: Connection
) -> None:
    file = tmp_path / "ayb-jobs.toml"
    file.write_text(POISON)
    config = load_config(file, kinds=KINDS)
    poison = [name for name in config.job_types if name != "innocent"]
    innocent = (["innocent"] + ["plain"] * 9) * 50
    types = [*innocent, *poison, *innocent]
    registry = build_registry(config)
    registry.handler("plain")(lambda _: None)
    enqueue_many(conn, [NewJob(type=name, max_attempts=1) for name in types])
    with running(database_url, registry, worker_concurrency=6):
        unfinished = "SELECT count(*) FROM _ayb_jobs WHERE state IN ('queued', 'running')"
        eventually(lambda: conn.execute(unfinished).fetchone() == (0,), within_s=60)
    ended = conn.execute(ENDED).fetchall()
    assert sorted(row for row in ended if row[0] not in innocent) == [
        ("bomb", "failed", "exit code 1"),
        ("crash", "failed", "the command was killed by SIGSEGV"),
        ("deaf", "timed_out", "the command was killed by SIGKILL"),
        ("flood", "failed", "exit code 4"),
        ("stays", "failed", "exit code 3"),
    ]
    assert [row[1:] for row in ended if row[0] in innocent] == [("completed", None)] * 1000
