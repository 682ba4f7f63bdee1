"""The real daemon with several hosts in its address."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ayb_jobs.embedded import EmbeddedPostgres
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.migrate import migrate
from tests.acceptance.processes import daemon
from tests.cli.conftest import Cli
from tests.eventually import eventually
from tests.factories import make_job


@pytest.fixture
def servers() -> Iterator[tuple[EmbeddedPostgres, EmbeddedPostgres]]:
    """Two migrated servers; the second takes no writes, as a standby does."""
    with EmbeddedPostgres.throwaway() as first, EmbeddedPostgres.throwaway() as second:
        for server in (first, second):
            with closing(connect(server.url())) as conn:
                migrate(conn)
        take_writes(second, yes=False)
        yield first, second


def take_writes(server: EmbeddedPostgres, *, yes: bool) -> None:
    with closing(connect(server.url())) as conn:
        conn.execute("SET default_transaction_read_only = off")
        conn.execute(sql.SQL("ALTER SYSTEM SET default_transaction_read_only = {}").format(sql.Literal(not yes)))
        conn.execute("SELECT pg_reload_conf()")
    eventually(lambda: is_writable(server) is yes)


def is_writable(server: EmbeddedPostgres) -> bool:
    with closing(connect(server.url())) as conn:
        return conn.execute("SHOW default_transaction_read_only").fetchone() == ("off",)


def address_of(*servers: EmbeddedPostgres) -> str:
    parts = [conninfo_to_dict(server.url()) for server in servers]
    hosts, ports = (",".join(str(part[key]) for part in parts) for key in ("host", "port"))
    return make_conninfo(servers[0].url(), host=hosts, port=ports)


def is_completed(conn: Connection, job_id: str) -> bool:
    return conn.execute("SELECT state FROM _ayb_jobs WHERE id = %s", (job_id,)).fetchone() == ("completed",)


def test_commands_find_the_server_that_takes_writes(servers: tuple[EmbeddedPostgres, EmbeddedPostgres]) -> None:
    first, second = servers
    cli = Cli({"AYB_JOBS_ENABLED": "true", "AYB_JOBS_DATABASE_URL": address_of(second, first)})
    cli.ok("migrate")
    cli.ok("jobs", "enqueue", "test")
    with closing(connect(first.url())) as conn:
        assert conn.execute("SELECT count(*) FROM _ayb_jobs").fetchone() == (1,)
    assert "no daemon is alive" in cli("health").out  # and not that the database is a standby


def test_commands_read_from_a_standby_where_there_is_no_primary(
    servers: tuple[EmbeddedPostgres, EmbeddedPostgres],
) -> None:
    cli = Cli({"AYB_JOBS_ENABLED": "true", "AYB_JOBS_DATABASE_URL": servers[1].url()})
    cli.ok("jobs", "list")
    assert "the database takes no writes" in cli("health").out
    assert cli("jobs", "enqueue", "test").code == 69


def test_the_daemon_follows_the_server_that_takes_writes(
    tmp_path: Path, servers: tuple[EmbeddedPostgres, EmbeddedPostgres]
) -> None:
    first, second = servers
    with ExitStack() as stack:
        on_first, on_second = (stack.enter_context(closing(connect(server.url()))) for server in servers)
        # The second stands first in the address, so that the daemon has to look further.
        running = stack.enter_context(daemon(tmp_path, address_of(second, first), poll_interval_ms=100))
        job_id = make_job(on_first, type="quick")
        eventually(lambda: is_completed(on_first, job_id), within_s=30)
        take_writes(first, yes=False)
        running.await_event("loop.failed")
        take_writes(second, yes=True)
        on_second.execute("SET default_transaction_read_only = off")
        job_id = make_job(on_second, type="quick")
        eventually(lambda: is_completed(on_second, job_id), within_s=30)
        failed = [line["loop"] for line in running.events("loop.failed")]
        assert len(failed) == len(set(failed))
        running.await_event("loop.recovered")
