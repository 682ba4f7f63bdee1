"""No instant that plain SQL may write keeps a check, a page, a call, a probe, the metrics or a command from its answer.

Versions of PostgreSQL differ in what they reckon with such instants, so that it is tried on each.
"""

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest

from ayb_jobs.checks.diagnosis import QUESTIONS
from ayb_jobs.checks.verdict import look_round
from ayb_jobs.checks.why import why_job
from ayb_jobs.config import Api, Retention
from ayb_jobs.events import RequestFailed
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.migrate import migrate
from ayb_jobs.storage.queue.executions import put_off_s
from tests.cli.conftest import Cli
from tests.edges_of_time import INSTANTS, write_edges
from tests.http.conftest import Server, serving
from tests.http.operations import OPERATIONS, STREAM

PAGES = (
    "/", "/jobs", "/jobs?state=waiting", "/jobs?state=running", "/jobs?state=completed", "/failures", "/schedules", "/executions",
    "/executions?over=day", "/batches", "/queues", "/daemons", "/audit", *(f"/queues?limit=limit {at}" for at in INSTANTS),
)  # fmt: skip
COMMANDS = (
    "health", "doctor", "why", "jobs list", "jobs stats", "schedules list", "schedules timeline", "schedules lint",
    "schedules overdue", "schedules fires", "queues list", "types list", "keys list", "limits list", "batches list",
)  # fmt: skip
# What a call is asked for by its id; in PostgreSQL's words.
NAMED = {
    "jobs": "SELECT id::text FROM (SELECT id, row_number() OVER (ORDER BY id) AS place FROM _ayb_jobs) AS job WHERE place % 83 = 0",
    "schedules": "SELECT id::text FROM _ayb_job_schedules ORDER BY id LIMIT 10",
    "batches": "SELECT id::text FROM _ayb_job_batches ORDER BY id LIMIT 10",
    "limits": "SELECT name FROM _ayb_job_limits",
    "queues": "SELECT DISTINCT queue FROM _ayb_jobs",
    "types": "SELECT DISTINCT type FROM _ayb_jobs",
    "keys": "SELECT DISTINCT limited_by || '/' || limited_key FROM _ayb_jobs WHERE limited_by IS NOT NULL",
}  # fmt: skip


@pytest.fixture
def edges(each_empty_database_url: str) -> Iterator[tuple[Server, Connection]]:
    """A server on a database with such rows in each table."""
    with (
        closing(connect(each_empty_database_url)) as conn,
        closing(Database(each_empty_database_url, name="test")) as db,
    ):
        migrate(conn)
        write_edges(conn)
        with serving(db, api=Api(port=0)) as server:
            yield server, conn


def refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def strictly(text: str) -> Any:
    return json.loads(text, parse_constant=refuse)


def reads(conn: Connection) -> Iterator[str]:
    """Yield the path of each page and each call that reads."""
    yield from PAGES
    ids = {name: [str(row[0]) for row in conn.execute(text.encode())] for name, text in NAMED.items()}
    for method, path in OPERATIONS:
        if method != "GET" or path == STREAM[1]:
            continue
        if "{" not in path:
            yield path
            continue
        yield from (path.replace("{id}", id_) for id_ in ids[path.split("/")[3]])
    yield from (f"/jobs/{id_}" for id_ in ids["jobs"])


def what_is_wrong(answer: httpx.Response) -> str | None:
    if answer.status_code not in (
        200,
        503 if answer.url.path == "/readyz" else 200,
        404 if "output" in answer.url.path else 200,
    ):
        return f"{answer.status_code}: {answer.text[:300]}"
    if "json" in answer.headers["Content-Type"]:
        try:
            strictly(answer.text)
        except ValueError as error:
            return str(error)
    return None


def test_everything_is_answered_whatever_instants_the_rows_have(edges: tuple[Server, Connection]) -> None:
    server, conn = edges
    with server.client() as client:
        wrong = {path: told for path in reads(conn) if (told := what_is_wrong(client.get(path)))}
    assert [str(each.error) for each in server.told if isinstance(each, RequestFailed)] == []
    assert wrong == {}
    for question in QUESTIONS:
        list(question.ask(conn))
    evidence = [dict(finding.evidence) for finding in look_round(conn, Retention()).verdict.findings]
    json.dumps(evidence, allow_nan=False, default=str)
    for (job_id,) in conn.execute(
        "SELECT id::text FROM _ayb_jobs TABLESAMPLE BERNOULLI (10) REPEATABLE (1)"
    ).fetchall():
        why_job(conn, job_id)
        put_off_s(conn, job_id)
    cli = Cli({"AYB_JOBS_DATABASE_URL": conn.info.dsn, "AYB_JOBS_ENABLED": "true"})
    for command in COMMANDS:
        said = cli(*command.split(), "--json")
        assert said.code in (0, 1), (command, said)
        assert strictly(said.out) is not None
    assert cli("top", "--once").code == 0
