"""Rows whose instants lie at the ends of time, as plain SQL may write them, keep nothing from being shown.

Versions of PostgreSQL differ in what they reckon with such instants, so that it is tried on each.
"""

from collections.abc import Iterator
from contextlib import closing
from itertools import product

import pytest
from psycopg import sql

from ayb_jobs.checks.diagnosis import QUESTIONS
from ayb_jobs.config import Api
from ayb_jobs.events import RequestFailed
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.migrate import migrate
from tests.http.conftest import Server, serving
from tests.http.operations import OPERATIONS, STREAM

INSTANTS = ["infinity", "-infinity", "294276-12-31", "4713-01-01 BC"]
STATES = ["queued", "running", "completed", "failed", "canceled"]
PAGES = ["/", "/jobs", "/failures", "/schedules", "/executions", "/queues", "/daemons", "/audit"]
# The columns that a row needs; all of its instants are written besides.
NEEDED: dict[str, dict[str, str]] = {
    "_ayb_jobs": {"type": "'mail'", "lease_id": "CASE state WHEN 'running' THEN gen_random_uuid() END"},
    "_ayb_job_schedules": {"name": "gen_random_uuid()::text", "job_type": "'mail'", "cron_expr": "'0 3 * * *'"},
    "_ayb_job_executions": {
        "id": "nextval('_ayb_job_execution_ids')", "job_id": "(SELECT id FROM _ayb_jobs LIMIT 1)", "job_type": "'mail'",
        "schedule_id": "(SELECT id FROM _ayb_job_schedules LIMIT 1)", "attempt": "1",
        "outcome": "CASE state WHEN 'queued' THEN 'lost' ELSE 'completed' END",
    },
    "_ayb_job_workers": {
        "id": "gen_random_uuid()", "host": "'h'", "pid": "1", "version": "'1'", "concurrency": "1",
        "queues": "'{default}'", "types": "'{mail}'",
    },
    "_ayb_job_pauses": {"kind": "'type'", "name": "gen_random_uuid()::text", "paused_by": "'sql'"},
}  # fmt: skip
COLUMNS = """
    SELECT column_name FROM information_schema.columns
    WHERE table_name = %s AND data_type = 'timestamp with time zone' AND is_generated = 'NEVER'
"""


def write_endless(conn: Connection, table: str) -> None:
    """Write a row for each state and each end of time, with all its instants there."""
    instants = [name for (name,) in conn.execute(COLUMNS, (table,))]
    columns = NEEDED[table] | dict.fromkeys(instants, "at::timestamptz")
    columns |= {"state": "state"} if table == "_ayb_jobs" else {}
    columns |= {"heartbeat_at": "now() - interval '1 second'"} if table == "_ayb_job_workers" else {}
    statement = sql.SQL("INSERT INTO {} ({}) SELECT {} FROM (VALUES {}) AS made (at, state)").format(
        sql.Identifier(table),
        sql.SQL(", ").join(map(sql.Identifier, columns)),
        sql.SQL(", ".join(columns.values())),
        sql.SQL(", ").join(sql.SQL("({}, {})").format(at, state) for at, state in product(INSTANTS, STATES)),
    )
    conn.execute(statement)


@pytest.fixture
def endless(each_empty_database_url: str) -> Iterator[tuple[Server, Connection]]:
    """A server on a database with such rows in each table."""
    with (
        closing(connect(each_empty_database_url)) as conn,
        closing(Database(each_empty_database_url, name="test")) as db,
    ):
        migrate(conn)
        for table in NEEDED:
            write_endless(conn, table)
        with serving(db, api=Api(port=0)) as server:
            yield server, conn


def test_every_page_and_every_call_shows_what_lies_at_the_ends_of_time(endless: tuple[Server, Connection]) -> None:
    server, conn = endless
    ids = [str(row[0]) for row in conn.execute("SELECT id FROM _ayb_jobs LIMIT 10")]
    calls = [path for method, path in OPERATIONS if method == "GET" and path != STREAM[1] and "{" not in path]
    paths = [*PAGES, *calls, *(f"/jobs/{id_}" for id_ in ids), *(f"/api/admin/jobs/{id_}" for id_ in ids)]
    with server.client() as client:
        failed = {path: answer.status_code for path in paths if (answer := client.get(path)).status_code != 200}
    assert [str(each.error) for each in server.told if isinstance(each, RequestFailed)] == []
    assert failed == {}


@pytest.mark.parametrize(
    ("asked", "share"), [({}, "true"), ({"due": "true"}, "run_at <= now()"), ({"due": "false"}, "run_at > now()")]
)
def test_pages_by_cursor_hold_each_job_once(
    endless: tuple[Server, Connection], asked: dict[str, str], share: str
) -> None:
    server, conn = endless
    state = "queued" if asked else ""
    params = {**asked, "state": state, "limit": "1"}
    ids: list[str] = []
    with server.client() as client:
        page = client.get("/api/admin/jobs", params=params).json()
        while "nextCursor" in page:
            ids += [job["id"] for job in page["items"]]
            page = client.get("/api/admin/jobs", params={**params, "cursor": page["nextCursor"]}).json()
    ids += [job["id"] for job in page["items"]]
    meant = f"SELECT id::text FROM _ayb_jobs WHERE {share} AND {f'state = {state!r}' if state else 'true'}"
    assert sorted(ids) == sorted(row[0] for row in conn.execute(meant.encode()))


def test_doctor_asks_all_the_same(endless: tuple[Server, Connection]) -> None:
    for question in QUESTIONS:
        list(question.ask(endless[1]))
