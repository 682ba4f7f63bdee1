"""An operator gets through, however busy the handlers are."""

from pathlib import Path

import httpx

from ayb_jobs.storage.database import Connection
from tests.acceptance.processes import daemon
from tests.eventually import eventually
from tests.factories import make_job

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
        answer = httpx.get(f"{url}/api/admin/jobs?state=running", timeout=5)
        assert answer.json()["count"] == 2
