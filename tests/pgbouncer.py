"""A real PgBouncer, run for the tests."""

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ayb_jobs.embedded import EmbeddedPostgres
from tests.eventually import eventually

CONFIGURATION = """
[databases]
* = host={host} port={port} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own_port}
unix_socket_dir =
auth_type = any
admin_users = postgres
pool_mode = {mode}
default_pool_size = {size}
max_client_conn = 500
ignore_startup_parameters = extra_float_digits
server_idle_timeout = 1
"""


@dataclass(frozen=True)
class PgBouncer:
    """A running PgBouncer."""

    SEARCHED: ClassVar[str] = "/usr/sbin:/usr/local/sbin:" + os.environ.get("PATH", "")

    port: int

    def share_sessions(self) -> None:
        """Go over from session mode to transaction mode, clients being connected."""
        console = make_conninfo(host="127.0.0.1", port=str(self.port), dbname="pgbouncer", user="postgres")
        with closing(psycopg.connect(console, autocommit=True, cursor_factory=psycopg.ClientCursor)) as conn:
            conn.execute("SET pool_mode = 'transaction'")

    @classmethod
    @contextmanager
    def running(
        cls, postgres: EmbeddedPostgres, folder: Path, *, mode: str = "transaction", size: int = 20
    ) -> Iterator[Self]:
        """Run PgBouncer in front of `postgres`, for the time of the `with` block.

        `mode` is its `pool_mode`, `size` how many server connections it has for each database.
        """
        port = free_port()
        server = conninfo_to_dict(postgres.url())
        config = folder / "pgbouncer.ini"
        values = {"host": server["host"], "port": server["port"], "own_port": port, "mode": mode, "size": size}
        config.write_text(CONFIGURATION.format(**values))
        process = subprocess.Popen(
            ["pgbouncer", "--quiet", *_as_the_servers_owner(postgres), "pgbouncer.ini"],
            cwd=folder,
            stderr=subprocess.DEVNULL,
            env={"PATH": cls.SEARCHED},
        )
        try:
            eventually(lambda: process.poll() is None and _listens(port))
            yield cls(port)
        finally:
            process.terminate()
            process.wait()

    def url(self, database_url: str) -> str:
        """Return the address under which this PgBouncer serves the database at `database_url`."""
        return make_conninfo(database_url, host="127.0.0.1", port=str(self.port))


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _as_the_servers_owner(postgres: EmbeddedPostgres) -> list[str]:
    """PgBouncer refuses to run as root, and the server's socket is open to its owner alone."""
    return ["--user", postgres.home.owner()] if os.geteuid() == 0 else []


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
