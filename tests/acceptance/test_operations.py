"""What docs/postgresql.md tells operators: the rights and the connections that a daemon needs."""

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo

from ayb_jobs.config import load_config
from ayb_jobs.embedded import EmbeddedPostgres
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.migrate import migrate
from ayb_jobs.storage.rights import grant
from tests.acceptance.processes import daemon
from tests.docs.reading import ROOT, blocks
from tests.eventually import eventually
from tests.factories import make_job

DOCUMENT = ROOT / "docs" / "postgresql.md"


@pytest.fixture
def owned() -> Iterator[tuple[str, Connection]]:
    """The address of a server, for the role that the document makes, and its owner's connection."""
    with EmbeddedPostgres.throwaway() as server, closing(connect(server.url())) as owner:
        migrate(owner)
        (revoke,) = [block for block in blocks(DOCUMENT, "sql") if "REVOKE" in block.text]
        owner.execute(revoke.text.encode())
        owner.execute("CREATE ROLE worker LOGIN")
        grant(owner, "public", "worker", ["daemon"])
        yield make_conninfo(server.url(), user="worker"), owner


def test_a_daemon_works_with_the_documented_rights_and_connections(
    tmp_path: Path, owned: tuple[str, Connection]
) -> None:
    url, owner = owned
    concurrency = load_config(environ={}).jobs.worker_concurrency
    stated = re.search(r"`worker_concurrency \+ (\d+)`", DOCUMENT.read_text())
    assert stated is not None
    opened = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'worker'"
    left = "SELECT count(*) FROM _ayb_jobs WHERE state <> 'completed'"
    for _ in range(500):
        make_job(owner, type="quick")
    most = 0

    def all_done() -> bool:
        nonlocal most
        row = owner.execute(opened).fetchone()
        most = max(most, row[0] if row else 0)
        return owner.execute(left).fetchone() == (0,)

    with daemon(tmp_path, url, poll_interval_ms=20) as running:
        running.await_event("daemon.started")
        eventually(all_done, within_s=40)
        assert [line for line in running.log() if line["level"] in {"warning", "error"}] == []
        assert running.events("job.completed")
    assert 2 < most <= concurrency + int(stated[1])
