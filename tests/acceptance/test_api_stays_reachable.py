"""An operator gets through, however busy the handlers are; and handlers go on, however many operators look."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path

import httpx

from ayb_jobs.storage.database import Connection, connect
from tests.acceptance.processes import daemon
from tests.eventually import eventually
from tests.factories import make_job
from tests.http.conftest import NO_AUTHORITIES

GREEDY = """
from ayb_jobs import JobContext, Registry

registry = Registry()

@registry.handler("greedy")
def greedy(ctx: JobContext) -> None:
    with ctx.connection():
        ctx.stopping.wait(60)
"""


def test_handlers_that_hold_every_connection_keep_no_operator_out(
    tmp_path: Path, database_url: str, conn: Connection
) -> None:
    (tmp_path / "greedy_handlers.py").write_text(GREEDY)
    settings = {
        "api_enabled": "true", "api_port": "0", "worker_concurrency": "2", "database_work_connections": "2",
        "handlers_modules": "greedy_handlers",
    }  # fmt: skip
    with daemon(tmp_path, database_url, **settings) as process:
        url = process.await_event("api.started")["url"]
        for _ in range(2):
            make_job(conn, type="greedy")
        held = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'ayb-jobs-work'"
        eventually(lambda: conn.execute(held).fetchone() == (2,), within_s=20)
        answer = httpx.get(f"{url}/api/admin/jobs?state=running", timeout=5, verify=NO_AUTHORITIES)
        assert answer.json()["count"] == 2


def test_dashboards_whose_questions_hang_slow_no_job(tmp_path: Path, database_url: str, conn: Connection) -> None:
    conn.execute("CREATE TABLE _ayb_sessions (id uuid, expires_at timestamptz)")
    with (
        daemon(tmp_path, database_url, api_enabled="true", api_port="0", handlers_packs="ayb") as process,
        ThreadPoolExecutor(40) as dashboards,
        closing(connect(database_url, name="locker")) as locker,
    ):
        url = process.await_event("api.started")["url"]
        process.await_event("daemon.started")
        with locker.transaction():
            locker.execute("LOCK TABLE _ayb_job_audit IN ACCESS EXCLUSIVE MODE")
            ask = partial(httpx.get, f"{url}/api/admin/audit", timeout=60, verify=NO_AUTHORITIES)
            asked = [dashboards.submit(ask) for _ in range(40)]
            held = "SELECT count(*) > 1 FROM pg_locks WHERE relation = '_ayb_job_audit'::regclass AND NOT granted"
            eventually(lambda: conn.execute(held).fetchone() == (True,), within_s=20)
            job_id = make_job(conn, type="stale_session_cleanup")
            state = "SELECT state FROM _ayb_jobs WHERE id = %s"
            eventually(lambda: conn.execute(state, (job_id,)).fetchone() == ("completed",), within_s=4)
        assert {one.result().status_code for one in asked} <= {200, 503}
