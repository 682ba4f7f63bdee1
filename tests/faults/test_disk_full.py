"""A server whose disk is full: a small one in memory, with a file on it that takes all the rest."""

import json
import os
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

import psycopg
import pytest

from ayb_jobs.client.enqueueing import enqueue, enqueue_many
from ayb_jobs.embedded import EmbeddedPostgres
from ayb_jobs.errors import DatabaseError
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.migrate import migrate
from tests import servers
from tests.acceptance.processes import DaemonProcess, daemon, readiness
from tests.cli.conftest import Cli
from tests.eventually import eventually
from tests.pgbouncer import free_port

JOBS = 2000
MOUNT = ["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs"]
STATES = "SELECT state, count(*) FROM _ayb_jobs GROUP BY state"
EXECUTIONS = "SELECT count(*), count(DISTINCT job_id), max(attempt) FROM _ayb_job_executions"
FULL = "a disk of the database is full"
COMPLETED = "SELECT count(*) FROM _ayb_jobs WHERE state = 'completed'"


class SmallDisk:
    """A disk of 96 MB, with a server on it."""

    def __init__(self, folder: Path, server: EmbeddedPostgres) -> None:
        self.server = server
        self._filler = folder / "filler"

    def fill(self) -> None:
        """Leave no room for a single further block."""
        with self._filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
            self._write_on(file)

    def make_room(self) -> None:
        """Make room again, and start the server where it went down; returns once it answers."""
        self._filler.unlink()
        eventually(self._answers, within_s=60)

    def _answers(self) -> bool:
        try:
            self.server.start()
            connect(self.server.url()).close()
        except DatabaseError:  # on its way up or down
            return False
        return True

    @staticmethod
    def _write_on(file: BinaryIO) -> None:
        while True:
            file.write(bytes(65536))


@pytest.fixture
def disk(postgres: EmbeddedPostgres) -> Iterator[SmallDisk]:
    with servers.short_folder() as folder:
        mounted = subprocess.run([*MOUNT, folder], capture_output=True, text=True, check=False)
        if mounted.returncode:
            pytest.skip(f"a small disk cannot be mounted, which takes root: {mounted.stderr}")
        try:
            folder.chmod(0o755)
            server = servers.server_in(folder / "server", postgres, {"fsync": "off", "full_page_writes": "off"})
            servers.make(server)
            server.start()
            with closing(connect(server.url())) as conn:
                migrate(conn)
            yield SmallDisk(folder, server)
            server.stop("immediate")
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


def test_what_a_full_disk_refuses_is_done_once_there_is_room(tmp_path: Path, disk: SmallDisk) -> None:
    large = os.urandom(30_000).hex()
    with closing(connect(disk.server.url())) as conn:
        enqueue_many(conn, [NewJob(type="quick", payload={"s": 0.005}) for _ in range(JOBS)])
        with daemon(tmp_path, disk.server.url(), lease_duration_s=600) as running:
            eventually(lambda: conn.execute(COMPLETED).fetchone() != (0,), within_s=60)
            disk.fill()
            failed = running.await_event("loop.failed")
            assert "No space left on device" in str(failed)
            with pytest.raises(psycopg.errors.DiskFull, match="No space left on device"):
                enqueue(conn, NewJob(type="quick", payload={"text": large}))
            cli = Cli({"AYB_JOBS_ENABLED": "true", "AYB_JOBS_DATABASE_URL": disk.server.url()})
            refused = cli("jobs", "enqueue", "quick", "--payload", json.dumps({"text": large}))
            assert refused.code == 69
            assert "No space left on device" in refused.err
            disk.make_room()
            each_ran_once(conn, running)


def test_every_door_tells_that_the_disk_is_full(tmp_path: Path, disk: SmallDisk) -> None:
    port = free_port()
    url = disk.server.url()
    with closing(connect(url)) as conn:
        enqueue_many(conn, [NewJob(type="quick", payload={"s": 0.005}) for _ in range(JOBS)])
        with daemon(tmp_path, url, lease_duration_s=600, api_enabled="true", api_port=port) as running:
            eventually(lambda: conn.execute(COMPLETED).fetchone() != (0,), within_s=60)
            disk.fill()
            eventually(lambda: FULL in " ".join(readiness(port)[1]), within_s=10)
            assert readiness(port)[0] == 503
            cli = Cli({"AYB_JOBS_ENABLED": "true", "AYB_JOBS_DATABASE_URL": url})
            eventually(lambda: cli("health").code == 1, within_s=10)
            for command in (["health"], ["doctor"], ["top", "--once"], ["why"]):
                assert FULL in " ".join(cli(*command).out.lower().split())
            eventually(lambda: FULL in page_of(port).lower(), within_s=10)
            assert "Daemons keep what they cannot store" in page_of(port)
            disk.make_room()
            eventually(lambda: readiness(port) == (200, []), within_s=90)
            each_ran_once(conn, running)


def page_of(port: int) -> str:
    """Return the dashboard's first page."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
        text: str = answer.read().decode()
        return text


def test_a_server_that_goes_down_for_want_of_room_is_waited_for(tmp_path: Path, disk: SmallDisk) -> None:
    """Where the log of changes cannot grow, the server crashes and may not come back by itself."""
    with closing(connect(disk.server.url())) as conn:
        enqueue_many(conn, [NewJob(type="quick", payload={"s": 0.005}) for _ in range(JOBS)])
    with daemon(tmp_path, disk.server.url(), lease_duration_s=600) as running:
        with closing(connect(disk.server.url())) as conn:
            eventually(lambda: conn.execute(COMPLETED).fetchone() != (0,), within_s=60)
            disk.fill()
            with pytest.raises(psycopg.OperationalError):
                crash(conn)
        running.await_event("loop.failed")
        disk.make_room()
        with closing(connect(disk.server.url())) as conn:
            each_ran_once(conn, running)


def crash(conn: Connection) -> None:
    """Use up the log of changes that was made in advance."""
    while True:
        conn.execute("SELECT pg_switch_wal()")
        conn.execute("SELECT pg_logical_emit_message(true, 'test', 'fills')")


def each_ran_once(conn: Connection, running: DaemonProcess) -> None:
    """Assert that every job completes at its first attempt, and that the daemon, which never ended, works again."""
    eventually(lambda: conn.execute(STATES).fetchall() == [("completed", JOBS)], within_s=60)
    assert conn.execute(EXECUTIONS).fetchone() == (JOBS, JOBS, 1)
    failed = {line["loop"] for line in running.events("loop.failed")}
    eventually(lambda: {line["loop"] for line in running.events("loop.recovered")} >= failed, within_s=30)
    running.send(signal.SIGTERM)
    assert running.wait() == 0
