"""The schema of version 0.1.0, with rows in every state, brought up to date: nothing is lost, all goes on."""

import time
from contextlib import closing
from typing import Any

import pytest
from psycopg import sql

from ayb_jobs.handlers.registry import Registry
from ayb_jobs.model.lifecycle import settle_result
from ayb_jobs.storage import migrations
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.migrate import migrate
from ayb_jobs.storage.migrations import shipped_migrations
from ayb_jobs.storage.queue.settling import settle_jobs
from tests.eventually import eventually
from tests.factories import leased_job, make_job, make_schedule
from tests.running import running

LAST_BEFORE = 7
COLUMNS = """
    SELECT table_name::text, array_agg(column_name::text ORDER BY column_name)
    FROM information_schema.columns
    WHERE table_schema = current_schema AND table_name IN ('_ayb_jobs', '_ayb_job_executions', '_ayb_job_schedules')
    GROUP BY table_name
"""
LOG = """
    INSERT INTO _ayb_job_executions (id, job_id, job_type, lease_id, attempt, worker_id, outcome, started_at, ended_at)
    VALUES (nextval('_ayb_job_execution_ids'), %s, 'test', gen_random_uuid(), 1, 'factory', 'completed', now(), now())
"""
HOUR_AGO, IN_AN_HOUR = (sql.SQL(f"now() {sign} interval '1 hour'") for sign in "-+")
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "due": ("queued", {"idempotency_key": "once"}),
    "urgent": ("queued", {"priority": 1, "payload": {"n": 1}}),
    "retried": ("queued", {"attempts": 1, "last_error": "it broke"}),
    "due later": ("queued", {"run_at": IN_AN_HOUR}),
    "lease alive": ("running", {}),
    "lease expired": ("running", {"lease_until": HOUR_AGO}),
    "completed": ("completed", {}),
    "failed": ("failed", {}),
    "canceled": ("canceled", {}),
}


def contents(conn: Connection, columns: dict[str, list[str]]) -> dict[str, list[tuple[Any, ...]]]:
    """Return the rows of these tables, in these columns."""
    statement = sql.SQL("SELECT {} FROM {} ORDER BY id")
    return {
        table: conn.execute(
            statement.format(sql.SQL(", ").join(map(sql.Identifier, names)), sql.Identifier(table))
        ).fetchall()
        for table, names in columns.items()
    }


def states(conn: Connection, ids: dict[str, str]) -> dict[str, str]:
    names = {id_: name for name, id_ in ids.items()}
    return {names[id_]: state for id_, state in conn.execute("SELECT id::text, state FROM _ayb_jobs")}


def registry() -> Registry:
    made = Registry()
    made.handler("test")(lambda _: None)
    return made


def end_attempt(conn: Connection, job_id: str) -> bool:
    """Settle a running job as the daemon of before does, which has its lease; tell whether that was done."""
    row: Any = conn.execute("SELECT lease_id::text, execution_id FROM _ayb_jobs WHERE id = %s", (job_id,)).fetchone()
    now = time.monotonic()
    job = leased_job(id=job_id, lease_id=row[0], execution_id=row[1])
    return settle_jobs(conn, [settle_result(job, None, now, now)], worker_id="factory", now=now).leases == {row[0]}


def test_rows_in_every_state_outlive_the_upgrade_from_the_first_version(
    each_empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = each_empty_database_url
    with closing(connect(url)) as conn:
        with monkeypatch.context() as before:
            found = [each for each in shipped_migrations() if each.version <= LAST_BEFORE]
            before.setattr("ayb_jobs.storage.migrate.shipped_migrations", lambda: found)
            migrate(conn)
        ids = {name: make_job(conn, state, **columns) for name, (state, columns) in ROWS.items()}
        make_schedule(conn, name="nightly", cron_expr="0 3 * * *")
        conn.execute(LOG, (ids["completed"],))
        columns: dict[str, list[str]] = dict(conn.execute(COLUMNS).fetchall())
        held = contents(conn, columns)
        assert (len(columns), len(held["_ayb_jobs"])) == (3, len(ROWS))
        assert migrate(conn).migrations
        assert contents(conn, columns) == held
    with closing(connect(url)) as conn:
        assert end_attempt(conn, ids["lease alive"])
        with running(url, registry()):
            eventually(lambda: states(conn, ids)["lease expired"] == "queued", within_s=20)
            conn.execute("UPDATE _ayb_jobs SET run_at = now() WHERE id = %s", (ids["lease expired"],))
            ended = {name: state for name, (state, _) in ROWS.items()} | {"due later": "queued"}
            ended |= dict.fromkeys(("due", "urgent", "retried", "lease alive", "lease expired"), "completed")
            eventually(lambda: states(conn, ids) == ended, within_s=20)
    assert migrations.shipped_migrations()[LAST_BEFORE].name == "0008_schedules"
