"""A role that the database lets in no more while its daemon runs: each door says so, and it goes on by itself."""

import urllib.error
import urllib.request
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo

from ayb_jobs.client.enqueueing import enqueue_many
from ayb_jobs.embedded import EmbeddedPostgres
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.storage.database import connect
from ayb_jobs.storage.migrate import migrate
from tests.acceptance.processes import daemon, readiness
from tests.cli.conftest import Cli
from tests.eventually import eventually
from tests.pgbouncer import free_port

JOBS = 40
STATES = "SELECT state, count(*) FROM _ayb_jobs GROUP BY state"
EXECUTIONS = "SELECT count(*), count(DISTINCT job_id), max(attempt) FROM _ayb_job_executions"
OTHERS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'ayb-jobs%'"
SAID = "the database does not let the daemon in: it refuses its user, its password or its database"
ASKS_FOR_PASSWORDS = "local all postgres trust\nlocal all all scram-sha-256\n"


@pytest.mark.parametrize(
    ("shut", "opened", "words"),
    [
        ("ALTER ROLE worker PASSWORD 'two'", "ALTER ROLE worker PASSWORD 'one'", "password authentication failed"),
        ("ALTER ROLE worker NOLOGIN", "ALTER ROLE worker LOGIN", "is not permitted to log in"),
    ],
    ids=["a password that was changed", "a role without login"],
)
def test_a_role_that_is_let_in_no_more_is_told_and_waited_for(
    shut: str, opened: str, words: str, tmp_path: Path
) -> None:
    with EmbeddedPostgres.throwaway() as server, connect(server.url(), name="test") as conn:
        migrate(conn)
        conn.execute("CREATE ROLE worker SUPERUSER LOGIN PASSWORD 'one'")
        (server.data_dir / "pg_hba.conf").write_text(ASKS_FOR_PASSWORDS)
        conn.execute("SELECT pg_reload_conf()")
        url, port = make_conninfo(server.url(), user="worker", password="one"), free_port()
        enqueue_many(conn, [NewJob(type="quick", payload={"s": 0.2}) for _ in range(JOBS)])
        with daemon(tmp_path, url, api_enabled="true", api_port=port, lease_duration_s=600) as running:
            running.await_event("daemon.started")
            conn.execute(shut.encode())
            conn.execute(OTHERS)
            eventually(lambda: readiness(port) == (503, [SAID]), within_s=10)
            eventually(lambda: SAID[1:] in page_of(port) and words in page_of(port), within_s=20)
            cli = Cli({"AYB_JOBS_ENABLED": "true", "AYB_JOBS_DATABASE_URL": url})
            assert words in cli("health").err
            conn.execute(opened.encode())
            eventually(lambda: readiness(port)[0] == 200, within_s=20)
            eventually(lambda: conn.execute(STATES).fetchall() == [("completed", JOBS)], within_s=30)
            assert conn.execute(EXECUTIONS).fetchone() == (JOBS, JOBS, 1)


def page_of(port: int) -> str:
    """Return the dashboard's first page, whatever its status."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return error.read().decode()
