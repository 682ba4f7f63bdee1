"""A database whose sessions end when idle, and whose transactions are serializable, under two real daemons."""

import json
import urllib.request
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from psycopg import sql

from ayb_jobs.storage.database import Connection, connect
from tests.acceptance.processes import daemon
from tests.docs.walking import free_port
from tests.eventually import eventually
from tests.factories import make_job, make_schedule

PREFERRED = {
    "idle_session_timeout": "3s",
    "idle_in_transaction_session_timeout": "10s",
    "default_transaction_isolation": "serializable",
}
HANDLERS = """
import asyncio, time
from ayb_jobs import JobContext, Registry

registry = Registry()

@registry.handler("counts")
def counts(ctx: JobContext) -> None:
    with ctx.connection() as conn:
        conn.execute("SELECT 1")
        conn.execute("INSERT INTO effects (job) VALUES (%s)", (ctx.job.id,))

@registry.handler("counts_async")
async def counts_async(ctx: JobContext) -> None:
    async with ctx.connection() as conn:
        await conn.execute("INSERT INTO effects (job) VALUES (%s)", (ctx.job.id,))

@registry.handler("at_once")
def at_once(ctx: JobContext) -> None:
    with ctx.transaction() as conn:
        conn.execute("INSERT INTO effects (job) VALUES (%s)", (ctx.job.id,))

@registry.handler("long")
def long(ctx: JobContext) -> None:
    for done in range(6):
        time.sleep(0.5)
        ctx.progress(done)
"""
TYPES = ("counts", "counts_async")
# Two daemons' sessions of every name have been idle for longer than the database would have a session be.
IDLE = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name ~ 'ayb-jobs' AND state = 'idle'
        AND state_change < now() - interval '4 seconds'
"""
ENDED = "SELECT count(*) FROM _ayb_jobs WHERE state = 'completed' AND schedule_id IS NULL"
STATES = "SELECT DISTINCT state FROM _ayb_jobs WHERE state <> 'queued'"
LACKING = """
    SELECT count(*) FROM _ayb_jobs
    WHERE state = 'completed' AND type <> 'long' AND id NOT IN (SELECT job FROM effects WHERE job IS NOT NULL)
"""


def prefer(conn: Connection) -> None:
    for setting, value in PREFERRED.items():
        statement = sql.SQL("ALTER DATABASE {} SET {} = {}")
        conn.execute(statement.format(sql.Identifier(conn.info.dbname), sql.Identifier(setting), sql.Literal(value)))


@pytest.mark.timeout(180)
def test_daemons_neither_fail_nor_complain_whatever_a_database_prefers(
    tmp_path: Path, database_url: str, conn: Connection
) -> None:
    conn.execute("CREATE TABLE effects (job uuid)")
    make_schedule(conn, name="each_second", job_type="counts", cron_expr="* * * * * *")
    prefer(conn)
    ports = [free_port(), free_port()]
    with ExitStack() as stack:
        daemons = []
        for number, port in enumerate(ports):
            folder = tmp_path / str(number)
            folder.mkdir()
            (folder / "preferring.py").write_text(HANDLERS)
            daemons.append(
                stack.enter_context(
                    daemon(
                        folder, database_url, handlers_modules="preferring", api_enabled="true", api_port=port,
                        poll_interval_ms=60_000, scheduler_enabled="true",
                        lease_duration_s=30,
                    )
                )
            )  # fmt: skip
        for each in daemons:
            each.await_event("daemon.started")
        make_job(conn, type="long")
        for _ in range(3):
            make_job(conn, type="at_once", max_attempts=20)
        for turn in (1, 2):
            for type_ in TYPES * 20:
                make_job(conn, type=type_, max_attempts=20)
            conn.execute("NOTIFY ayb_jobs")
            wanted = turn * 20 * len(TYPES) + (4 if turn == 2 else 0)
            eventually(lambda: (conn.execute(ENDED).fetchone() or (0,))[0] >= wanted, within_s=60)
            eventually(lambda: (conn.execute(IDLE).fetchone() or (0,))[0] >= 2, within_s=30)
            for port in ports:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/admin/jobs/stats", timeout=10) as answer:
                    assert json.load(answer)["failed"] == 0
        for each in daemons:
            each.process.terminate()
        assert [each.wait() for each in daemons] == [0, 0]
        told = [line for each in daemons for line in each.log() if line.get("level") not in ("info", "debug")]
    # A handler's own transaction may lose against others: that is the application's. A busy machine blocks event loops.
    told = [line for line in told if "could not serialize access" not in line.get("error", "")]
    assert [line for line in told if line["event"] != "event_loop.blocked"] == []
    with closing(connect(database_url)) as after:
        assert after.execute(STATES).fetchall() == [("completed",)]
        assert after.execute(LACKING).fetchone() == (0,)
