"""A server all of whose connections others have taken, at the daemon's start and later."""

import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ayb_jobs.client.enqueueing import enqueue_many
from ayb_jobs.embedded import EmbeddedPostgres
from ayb_jobs.errors import DatabaseError
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.migrate import migrate
from tests.acceptance.processes import DaemonProcess, daemon, readiness
from tests.cli.conftest import Cli
from tests.eventually import eventually
from tests.pgbouncer import free_port

STATES = "SELECT state, count(*) FROM _ayb_jobs GROUP BY state"
EXECUTIONS = "SELECT count(*), count(DISTINCT job_id), max(attempt) FROM _ayb_job_executions"
COMPLETED = "SELECT count(*) FROM _ayb_jobs WHERE state = 'completed'"
OTHERS = "FROM pg_stat_activity WHERE application_name LIKE 'ayb-jobs%'"
NONE_FREE = "the database has no connection free"


class Crowd:
    """Whoever takes all the connections of a server, and one to look at it with."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        self.url = server.url()
        self._server = server
        self._taken: list[Connection] = []
        self.conn = connect(self.url, name="crowd")

    def take_all(self) -> None:
        """Take every connection, those of the daemon included."""
        eventually(self._none_is_left_for_others, within_s=30)

    def _none_is_left_for_others(self) -> bool:
        self.conn.execute(f"SELECT pg_terminate_backend(pid) {OTHERS}")
        try:
            while True:
                self._taken.append(connect(self.url, name="crowd"))
        except DatabaseError:
            return self.conn.execute(f"SELECT count(*) {OTHERS}").fetchone() == (0,)

    def leave(self) -> None:
        """Give them all back."""
        for conn in self._taken:
            conn.close()

    def refusals(self) -> int:
        """Return how often the server refused a connection so far."""
        return self._server.log_file.read_text().count("sorry, too many clients already")


@pytest.fixture
def crowd() -> Iterator[Crowd]:
    with EmbeddedPostgres.throwaway(settings={"max_connections": "25"}) as server:
        crowd = Crowd(server)
        migrate(crowd.conn)
        yield crowd
        crowd.leave()
        crowd.conn.close()


@contextmanager
def a_daemon(folder: Path, crowd: Crowd) -> Iterator[tuple[DaemonProcess, int]]:
    """Run a daemon with HTTP, whose leases outlast the test; give it, and its port."""
    port = free_port()
    settings: dict[str, Any] = {"api_enabled": "true", "api_port": port, "lease_duration_s": 600}
    with daemon(folder, crowd.url, **settings) as running:
        yield running, port


def test_a_daemon_that_finds_no_connection_waits_for_one(tmp_path: Path, crowd: Crowd) -> None:
    enqueue_many(crowd.conn, [NewJob(type="quick")])
    crowd.take_all()
    with a_daemon(tmp_path, crowd) as (running, port):
        failed = running.await_event("loop.failed")
        assert failed["loop"] == "start-up"
        assert "too many clients" in str(failed)
        eventually(lambda: readiness(port) == (503, [NONE_FREE]), within_s=20)
        does_not_spin(running, crowd, while_waiting=4)
        assert len(running.events("loop.failed")) == 1
        crowd.leave()
        eventually(lambda: crowd.conn.execute(STATES).fetchall() == [("completed", 1)], within_s=20)
        assert len(running.events("loop.recovered")) == 1


def test_a_daemon_that_loses_all_its_connections_to_others_loses_no_job(tmp_path: Path, crowd: Crowd) -> None:
    jobs = 40
    enqueue_many(crowd.conn, [NewJob(type="quick", payload={"s": 0.5}) for _ in range(jobs)])
    with a_daemon(tmp_path, crowd) as (running, port):
        eventually(lambda: crowd.conn.execute(COMPLETED).fetchone() != (0,), within_s=20)
        crowd.take_all()
        eventually(lambda: readiness(port) == (503, [NONE_FREE]), within_s=20)
        cli = Cli({"AYB_JOBS_ENABLED": "true", "AYB_JOBS_DATABASE_URL": crowd.url})
        assert "too many clients" in cli("health").err
        does_not_spin(running, crowd, while_waiting=30)
        # Some may have found a connection and lost it again, before all were taken.
        unmended = Counter(line["loop"] for line in running.events("loop.failed"))
        unmended.subtract(line["loop"] for line in running.events("loop.recovered"))
        assert set(unmended.values()) <= {0, 1, 2}  # the second time after a minute
        crowd.leave()
        eventually(lambda: crowd.conn.execute(STATES).fetchall() == [("completed", jobs)], within_s=30)
        eventually(lambda: every_loop_recovered(running), within_s=20)
        eventually(lambda: readiness(port)[0] == 200, within_s=20)
        assert crowd.conn.execute(EXECUTIONS).fetchone() == (jobs, jobs, 1)


def every_loop_recovered(running: DaemonProcess) -> bool:
    failed, recovered = (
        {line["loop"] for line in running.events(event)} for event in ("loop.failed", "loop.recovered")
    )
    return failed == recovered


def does_not_spin(running: DaemonProcess, crowd: Crowd, *, while_waiting: int) -> None:
    """Assert that a daemon which is refused again and again neither asks in a hurry nor uses the processor up."""
    refused, used_s, began = crowd.refusals(), processor_s(running), time.monotonic()
    eventually(lambda: crowd.refusals() >= refused + while_waiting, within_s=60)
    elapsed_s = time.monotonic() - began
    loops = 15  # each asks once a second at most, once it has waited for longer and longer
    assert crowd.refusals() - refused <= while_waiting + 2 * loops * elapsed_s
    assert processor_s(running) - used_s < 0.5 * elapsed_s


def processor_s(running: DaemonProcess) -> float:
    """Return how much of a processor's time a daemon has used."""
    fields = Path(f"/proc/{running.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
