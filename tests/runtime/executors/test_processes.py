"""Isolated handlers in child processes."""

import importlib
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ayb_jobs.client.enqueueing import enqueue, enqueue_many
from ayb_jobs.config import load_config
from ayb_jobs.errors import ConfigError, InvalidInput
from ayb_jobs.events import JobOverran, LoopFailed
from ayb_jobs.handlers.async_context import AsyncJobContext
from ayb_jobs.handlers.context import JobContext
from ayb_jobs.handlers.isolation import isolation_faults
from ayb_jobs.handlers.kinds.table import KINDS
from ayb_jobs.handlers.packs import build_registry
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.runtime.executors import processes
from ayb_jobs.storage.database import Connection
from tests.eventually import eventually
from tests.running import running
from tests.runtime.executors import isolated_jobs

REGISTRY = isolated_jobs.registry


@pytest.fixture(autouse=True)
def _places(conn: Connection) -> None:
    conn.execute("CREATE TABLE places (job_id text, pid int)")


def row(conn: Connection, job_id: str, column: str) -> Any:
    found = conn.execute("SELECT to_jsonb(job) -> %s FROM _ayb_jobs AS job WHERE id = %s", (column, job_id)).fetchone()
    return None if found is None else found[0]


def has_state(conn: Connection, job_id: str, state: str) -> bool:
    return bool(row(conn, job_id, "state") == state)


def execution(conn: Connection, job_id: str) -> Any:
    return conn.execute(
        "SELECT outcome, error, records_processed FROM _ayb_job_executions WHERE job_id = %s", (job_id,)
    ).fetchone()


def count(conn: Connection, job_type: str, state: str) -> int:
    found = conn.execute("SELECT count(*) FROM _ayb_jobs WHERE type = %s AND state = %s", (job_type, state)).fetchone()
    return 0 if found is None else int(found[0])


def pids(conn: Connection) -> list[int]:
    return [pid for (pid,) in conn.execute("SELECT pid FROM places")]


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def is_gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"


# What a handler does, the state of its job then, the outcome of the attempt, and what its error holds.
ENDINGS = {
    "nothing": ("completed", "completed", ""),
    "progress": ("completed", "completed", ""),
    "transaction": ("completed", "completed", ""),
    "snooze": ("queued", "snoozed", ""),
    "cancel": ("canceled", "canceled", "no need"),
    "discard": ("failed", "discarded", "never"),
    "raise": ("failed", "failed", "ValueError: broken in the child"),
    "exit": ("failed", "failed", "SystemExit: 3"),
    "bad": ("failed", "discarded", "what the handler returned cannot be kept"),
    "result": ("completed", "completed", ""),
}


def test_each_ending_is_settled_as_in_a_thread(database_url: str, conn: Connection) -> None:
    with running(database_url, REGISTRY, process_concurrency=1):
        ids = {way: enqueue(conn, NewJob(type="end", payload=way, max_attempts=1)).id for way in ENDINGS}
        told = {way: eventually(partial(execution, conn, job_id), within_s=30) for way, job_id in ids.items()}
        for way, (state, outcome, error) in ENDINGS.items():
            eventually(partial(has_state, conn, ids[way], state))
            assert told[way][0] == outcome, way
            assert error in (told[way][1] or ""), way
    assert told["progress"][2] == 7
    assert conn.execute("SELECT job_id::text, result FROM _ayb_job_results").fetchall() == [
        (ids["result"], {"size": 3})
    ]
    assert len(pids(conn)) == 1
    assert pids(conn) != [os.getpid()]


def test_a_handler_has_a_process_and_a_connection_of_its_own(database_url: str, conn: Connection) -> None:
    enqueue_many(conn, [NewJob(type="where") for _ in range(20)])
    with running(database_url, REGISTRY, process_concurrency=2):
        eventually(lambda: count(conn, "where", "completed") == 20)
    children = set(pids(conn))
    assert os.getpid() not in children
    assert 1 <= len(children) <= 2
    assert all(is_gone(pid) for pid in children)


def test_a_child_is_replaced_after_so_many_jobs(database_url: str, conn: Connection) -> None:
    enqueue_many(conn, [NewJob(type="where") for _ in range(4)])
    with running(database_url, REGISTRY, process_concurrency=1, process_max_jobs=2):
        eventually(lambda: count(conn, "where", "completed") == 4)
    assert len(set(pids(conn))) == 2


def test_the_child_that_takes_the_place_of_another_is_begun_before(
    database_url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "SOON_S", 600)

    def place() -> int:
        job_id = enqueue(conn, NewJob(type="where")).id
        eventually(lambda: has_state(conn, job_id, "completed"), within_s=30)
        return pids(conn)[-1]

    with running(database_url, REGISTRY, process_concurrency=1, process_max_jobs=3):
        first = place()
        assert place() == first
        server = parent_of(first)
        eventually(lambda: len(children_of(server)) == 2, within_s=30)
        (second,) = children_of(server) - {first}
        assert [place() for _ in range(3)] == [first, second, second]
        eventually(lambda: len(children_of(server) - {first}) == 2, within_s=30)
        children = children_of(server)
    assert all(is_gone(pid) for pid in children)


def children_of(pid: int) -> set[int]:
    return {int(number) for number in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def test_no_more_run_at_once_than_process_concurrency(database_url: str, conn: Connection) -> None:
    enqueue_many(conn, [NewJob(type="wait") for _ in range(5)])
    with running(database_url, REGISTRY, process_concurrency=2, worker_concurrency=8):
        eventually(lambda: len(pids(conn)) == 2, within_s=30)
        later = enqueue(conn, NewJob(type="plain")).id  # by a look that begins when both are taken
        eventually(lambda: row(conn, later, "state") == "completed")
        assert len(pids(conn)) == 3
    assert len(set(pids(conn)) - {os.getpid()}) == 2


def test_a_child_that_holds_too_much_memory_is_replaced(database_url: str, conn: Connection) -> None:
    first, second = (enqueue(conn, NewJob(type=name)).id for name in ("hoard", "where"))
    with running(database_url, REGISTRY, process_concurrency=1, process_memory_mib=250):
        eventually(lambda: row(conn, second, "state") == "completed")
    assert row(conn, first, "state") == "completed"
    assert len(set(pids(conn))) == 2


def test_the_settings_isolate_a_handler(database_url: str, conn: Connection, tmp_path: Path) -> None:
    file = tmp_path / "ayb-jobs.toml"
    file.write_text(
        '[handlers]\nmodules = ["tests.runtime.executors.isolated_jobs"]\n[job_types.plain]\nisolation = "process"\n'
    )
    job_id = enqueue(conn, NewJob(type="plain")).id
    with running(database_url, build_registry(load_config(file, kinds=KINDS)), process_concurrency=1):
        eventually(lambda: row(conn, job_id, "state") == "completed")
    assert pids(conn) != [os.getpid()]


def test_steps_and_checked_payloads_are_as_in_a_thread(database_url: str, conn: Connection) -> None:
    good = enqueue(conn, NewJob(type="stepping", payload={"number": 7})).id
    bad = enqueue(conn, NewJob(type="stepping", payload={"number": "seven"})).id
    with running(database_url, REGISTRY, process_concurrency=1):
        eventually(lambda: (row(conn, good, "state"), row(conn, bad, "state")) == ("completed", "failed"))
    assert len(pids(conn)) == 1
    assert conn.execute("SELECT result FROM _ayb_job_results").fetchone() == ({"done": 7},)
    assert row(conn, bad, "attempts") == 1
    assert "number" in row(conn, bad, "last_error")


POISON = {
    "segfault": ("failed", "SIGSEGV"),
    "abort": ("failed", "SIGABRT"),
    "exit": ("failed", "exit code 0"),
    "kill": ("failed", "SIGKILL"),
    "memory": ("failed", "MemoryError"),
    "regex": ("timed_out", "timeout"),
    "fork": ("failed", "exit code 9"),
}


def test_poison_among_innocent_jobs_costs_its_own_attempts_and_nothing_else(
    database_url: str, conn: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forked = tmp_path / "forked"
    monkeypatch.setenv("FORKED_PID_FILE", str(forked))
    with running(database_url, REGISTRY, process_concurrency=2, process_memory_mib=300) as daemon:
        poison = {
            word: enqueue(conn, NewJob(type="poison", payload=word, max_attempts=1, priority=1)).id for word in POISON
        }
        enqueue_many(conn, [NewJob(type="innocent", payload={"n": n}, max_attempts=1) for n in range(1000)])
        eventually(lambda: count(conn, "innocent", "completed") == 1000, within_s=60)
        eventually(lambda: count(conn, "poison", "failed") == len(POISON), within_s=60)
        told = {word: execution(conn, job_id) for word, job_id in poison.items()}
        for word, (outcome, words) in POISON.items():
            assert told[word][0] == outcome, told[word]
            assert words in told[word][1], told[word]
        assert [event.job.id for event in daemon.recorder.of(JobOverran)] == [poison["regex"]]
        eventually(lambda: is_gone(int(forked.read_text())))
    assert count(conn, "innocent", "failed") == 0


def test_the_death_of_the_fork_server_costs_one_attempt_of_what_runs(database_url: str, conn: Connection) -> None:
    with running(database_url, REGISTRY, process_concurrency=1) as daemon:
        hit = enqueue(conn, NewJob(type="wait", payload="deaf", max_attempts=1)).id
        eventually(lambda: pids(conn), within_s=30)
        os.kill(parent_of(pids(conn)[0]), signal.SIGKILL)
        eventually(lambda: row(conn, hit, "state") == "failed")
        after = enqueue(conn, NewJob(type="where", max_attempts=1)).id
        eventually(lambda: row(conn, after, "state") == "completed", within_s=30)
        assert is_gone(pids(conn)[0])
        assert daemon.recorder.of(LoopFailed) == []
    assert "the process that forked it died" in execution(conn, hit)[1]


HEAVY = """
import os
from pathlib import Path
from ayb_jobs import JobContext, Registry

with Path(__file__).with_name("imports").open("a") as imports:
    imports.write(f"{{os.getpid()}}\\n")
if os.getpid() != {own}:
    {further}
registry = Registry()

@registry.handler("heavy", isolation="process")
def heavy(ctx: JobContext) -> int:
    return os.getpid()
"""


class Heavy:
    """A module that takes long to import, told by which processes have imported it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, further: str = "pass") -> None:
        self._imports = folder / "imports"
        (folder / "heavy_jobs.py").write_text(HEAVY.format(own=os.getpid(), further=further))
        monkeypatch.syspath_prepend(folder)
        monkeypatch.delitem(sys.modules, "heavy_jobs", raising=False)
        self.registry: Registry = importlib.import_module("heavy_jobs").registry

    def imports(self) -> int:
        """Return in how many processes beside this one it was imported."""
        return len(self._imports.read_text().split()) - 1


def completed_by(conn: Connection, jobs: int) -> set[int]:
    """Return the processes in which these jobs of the heavy module ran, once all have."""
    enqueue_many(conn, [NewJob(type="heavy") for _ in range(jobs)])
    eventually(lambda: count(conn, "heavy", "completed") == jobs, within_s=60)
    return {pid for (pid,) in conn.execute("SELECT records_processed FROM _ayb_job_executions")}


def test_the_modules_of_handlers_are_imported_once_for_all_children(
    database_url: str, conn: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heavy = Heavy(tmp_path, monkeypatch)
    with running(database_url, heavy.registry, process_concurrency=1, process_max_jobs=1):
        assert len(completed_by(conn, 4)) == 4
    assert heavy.imports() == 1


@pytest.mark.parametrize(
    "further",
    [
        "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()",
        "import socket; kept = socket.socketpair()",
        "once = Path(__file__).with_name('once'); once.exists() or once.touch() or 1 / 0",
    ],
    ids=["thread", "socket", "cannot be imported"],
)
def test_children_begin_anew_if_a_fork_would_share_what_a_module_began(
    database_url: str, conn: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, further: str
) -> None:
    heavy = Heavy(tmp_path, monkeypatch, further)
    with running(database_url, heavy.registry, process_concurrency=1, process_max_jobs=1):
        assert len(completed_by(conn, 2)) == 2
    assert heavy.imports() >= 3


def test_what_keeps_a_module_from_being_imported_in_children_is_told(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heavy = Heavy(tmp_path, monkeypatch, "raise ValueError('not in a child')")
    with running(database_url, heavy.registry, process_concurrency=1) as daemon:
        told = eventually(lambda: daemon.recorder.of(LoopFailed), within_s=30)
    assert "ValueError: not in a child" in str(told[0].error)


@pytest.mark.parametrize("further", ["os._exit(3)", "import time; time.sleep(3600)"], ids=["dies", "hangs"])
def test_a_module_that_no_child_survives_keeps_no_daemon_from_stopping(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, further: str
) -> None:
    heavy = Heavy(tmp_path, monkeypatch, further)
    with running(database_url, heavy.registry, process_concurrency=2, shutdown_timeout_s=0.5) as daemon:
        eventually(heavy.imports, within_s=30)
        assert daemon.daemon.stop() == 0


def test_if_start_up_code_began_a_thread_children_are_started_anew(
    database_url: str, conn: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    with running(database_url, REGISTRY, process_concurrency=1):
        job_id = enqueue(conn, NewJob(type="wait")).id
        eventually(lambda: pids(conn), within_s=30)
        program = Path(f"/proc/{pids(conn)[0]}/cmdline").read_bytes()
    assert b"executors.child import main" in program
    assert row(conn, job_id, "state") == "queued"


def test_what_a_shutdown_kills_is_given_back_with_its_attempt(database_url: str, conn: Connection) -> None:
    with running(database_url, REGISTRY, process_concurrency=2, shutdown_timeout_s=0.5) as daemon:
        deaf = enqueue(conn, NewJob(type="wait", payload="deaf", max_attempts=1)).id
        obedient = enqueue(conn, NewJob(type="wait", max_attempts=1)).id
        eventually(lambda: len(pids(conn)) == 2, within_s=30)
        assert daemon.daemon.stop() == 0
    for job_id in (deaf, obedient):
        assert (row(conn, job_id, "state"), row(conn, job_id, "attempts")) == ("queued", 0)
        assert execution(conn, job_id) is None
    assert all(is_gone(pid) for pid in pids(conn))


def test_a_handler_may_have_a_month(database_url: str, conn: Connection) -> None:
    with running(database_url, REGISTRY, process_concurrency=1):
        job = enqueue(conn, NewJob(type="patient", max_attempts=1)).id
        eventually(lambda: row(conn, job, "state") in ("completed", "failed"), within_s=20)
    assert execution(conn, job) == ("completed", None, None)


def test_a_handler_whose_lease_is_lost_is_killed(database_url: str, conn: Connection) -> None:
    with running(database_url, REGISTRY, process_concurrency=1, lease_duration_s=1):
        job_id = enqueue(conn, NewJob(type="wait", payload="deaf")).id
        eventually(lambda: pids(conn), within_s=30)
        conn.execute("UPDATE _ayb_jobs SET lease_id = gen_random_uuid(), lease_until = now() + interval '1 hour'")
        eventually(lambda: is_gone(pids(conn)[0]))
    assert row(conn, job_id, "state") == "running"


def test_an_isolated_handler_must_be_found_by_its_module(database_url: str) -> None:
    registry = Registry()

    @registry.handler("hidden", isolation="process")
    def hidden(ctx: JobContext) -> None: ...

    (fault,) = isolation_faults(registry)
    assert fault.startswith("job type hidden cannot run in a child process: ")
    assert fault.endswith("holds no Registry with it as a global name; a child looks there")
    with pytest.raises(ConfigError, match="hidden"), running(database_url, registry):
        pass


def test_an_asynchronous_handler_cannot_be_isolated() -> None:
    async def send(ctx: AsyncJobContext) -> None: ...

    with pytest.raises(InvalidInput, match="make it a plain function"):
        Registry().handler("send", isolation="process")(send)


def test_another_isolation_is_refused() -> None:
    anything: Any = "container"
    with pytest.raises(InvalidInput, match="container"):
        Registry().handler("send", isolation=anything)
