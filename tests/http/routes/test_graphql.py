"""Barycenter's admin queries, with its names, arguments, defaults and null rules."""

import json
from typing import Any

import httpx
import pytest

from ayb_jobs.config import Api
from ayb_jobs.events import RequestFailed
from ayb_jobs.handlers.packs import pack
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection
from tests.factories import make_job, make_schedule
from tests.http.answers import UNFORESEEN, problem
from tests.http.conftest import Server, serving

URL = "/admin/jobs"
INTROSPECTION = "{ __schema { queryType { name } } }"
LOGS = "id jobName startedAt completedAt success errorMessage recordsProcessed"


def ask(client: httpx.Client, query: str, **variables: Any) -> Any:
    answer = client.post(URL, json={"query": query, "variables": variables or None})
    assert answer.status_code == 200, answer.text
    return answer.json()


def add_execution(conn: Connection, number: int, job_type: str, outcome: str, **columns: Any) -> None:
    conn.execute(
        """
        INSERT INTO _ayb_job_executions
            (id, job_id, job_type, attempt, outcome, error, records_processed, started_at, ended_at)
        VALUES (%s, gen_random_uuid(), %s, 1, %s, %s, %s, '2026-01-02T03:04:05Z', '2026-01-02T03:04:06.5Z')
        """,
        (number, job_type, outcome, columns.get("error"), columns.get("records")),
    )


def test_every_registered_job_is_available_with_its_cron_expression(client: httpx.Client, conn: Connection) -> None:
    make_schedule(conn, job_type="stale_session_cleanup", cron_expr="0 0 * * * *")
    assert ask(client, "{ availableJobs { name description schedule } }") == {
        "data": {
            "availableJobs": [
                {"name": "send_mail", "description": "", "schedule": ""},
                {
                    "name": "stale_session_cleanup",
                    "description": "Delete expired sessions",
                    "schedule": "0 0 * * * *",
                },
            ]
        }
    }


def test_barycenters_jobs_bear_its_descriptions_and_schedules() -> None:
    barycenter = pack("barycenter")
    crons = {schedule.job_type: schedule.cron for schedule in barycenter.schedules.values()}
    assert {name: (found.description, crons[name]) for name, found in barycenter.job_types.items()} == {
        "cleanup_expired_sessions": ("Clean up expired user sessions", "0 0 * * * *"),
        "cleanup_expired_refresh_tokens": ("Clean up expired refresh tokens", "0 30 * * * *"),
        "cleanup_expired_challenges": ("Clean up expired WebAuthn challenges", "0 */5 * * * *"),
        "cleanup_expired_device_codes": ("Clean up expired device authorization codes", "0 45 * * * *"),
    }


def test_logs_are_newest_first_and_a_running_one_has_no_end(client: httpx.Client, conn: Connection) -> None:
    add_execution(conn, 1, "a", "failed", error="it broke")
    add_execution(conn, 2, "b", "completed", records=7)
    make_job(conn, "running", type="a", execution_id=3, last_run_at="2026-01-02T03:05:00Z")
    logs = ask(client, f"{{ jobLogs {{ {LOGS} }} }}")["data"]["jobLogs"]
    assert logs == [
        {
            "id": "3", "jobName": "a", "startedAt": "2026-01-02T03:05:00Z", "completedAt": None, "success": None,
            "errorMessage": None, "recordsProcessed": None,
        },
        {
            "id": "2", "jobName": "b", "startedAt": "2026-01-02T03:04:05Z", "completedAt": "2026-01-02T03:04:06.500000Z",
            "success": True, "errorMessage": None, "recordsProcessed": 7,
        },
        {
            "id": "1", "jobName": "a", "startedAt": "2026-01-02T03:04:05Z", "completedAt": "2026-01-02T03:04:06.500000Z",
            "success": False, "errorMessage": "it broke", "recordsProcessed": None,
        },
    ]  # fmt: skip


def test_logs_are_filtered_by_name_and_failure_and_limited(client: httpx.Client, conn: Connection) -> None:
    for number in range(1, 131):
        add_execution(conn, number, "a" if number % 2 else "b", "failed" if number % 10 == 0 else "completed")

    def ids(arguments: str = "") -> list[int]:
        return [int(log["id"]) for log in ask(client, f"{{ jobLogs{arguments} {{ id }} }}")["data"]["jobLogs"]]

    assert ids() == list(range(130, 30, -1))
    assert ids("(limit: 2)") == [130, 129]
    assert ids('(jobName: "a", limit: 2)') == [129, 127]
    assert ids("(onlyFailures: true, limit: 3)") == [130, 120, 110]
    assert ids('(jobName: "a", onlyFailures: true)') == []
    assert ids('(jobName: "nobody")') == []
    assert len(ids("(limit: 0)")) == len(ids("(limit: -1)")) == len(ids("(limit: null)")) == 100
    assert len(ids("(limit: 2147483647)")) == 130
    assert ids("(jobName: null, onlyFailures: null, limit: 1)") == [130]


def test_variables_and_operation_names_work(client: httpx.Client, conn: Connection) -> None:
    add_execution(conn, 1, "a", "completed")
    query = "query One($n: Int) { jobLogs(limit: $n) { id } } query Two { availableJobs { name } }"
    answer = client.post(URL, json={"query": query, "variables": {"n": 1}, "operationName": "One"})
    assert answer.json() == {"data": {"jobLogs": [{"id": "1"}]}}


def test_a_count_beyond_graphqls_integers_is_shown_as_the_largest(client: httpx.Client, conn: Connection) -> None:
    add_execution(conn, 1, "a", "completed", records=2**40)
    assert ask(client, "{ jobLogs { recordsProcessed } }") == {"data": {"jobLogs": [{"recordsProcessed": 2**31 - 1}]}}


def test_a_job_is_triggered(client: httpx.Client, conn: Connection) -> None:
    answer = ask(client, 'mutation { triggerJob(jobName: "send_mail") { success message jobName } }')
    assert answer == {
        "data": {
            "triggerJob": {
                "success": True,
                "message": "Job send_mail triggered successfully",
                "jobName": "send_mail",
            }
        }
    }
    row = conn.execute("SELECT type, state, payload, max_attempts FROM _ayb_jobs").fetchall()
    assert row == [("send_mail", "queued", {"to": "nobody"}, 5)]


@pytest.mark.parametrize("name", ["nobody", "", "a\x00b", "\ud800", "x" * 10_000])
def test_an_unknown_job_is_no_graphql_error(shared_client: httpx.Client, name: str) -> None:
    query = "mutation T($n: String!) { triggerJob(jobName: $n) { success message jobName } }"
    body = json.dumps({"query": query, "variables": {"n": name}})
    answer = shared_client.post(URL, content=body).json()
    shown = name.replace("\ud800", "?")
    assert answer == {"data": {"triggerJob": {"success": False, "message": f"Unknown job: {shown}", "jobName": shown}}}


@pytest.mark.parametrize(
    "query",
    [
        "{ nothing }",
        "{",
        "{ jobLogs(limit: 99999999999) { id } }",
        '{ jobLogs(limit: "ten") { id } }',
        "mutation { triggerJob { success } }",
        "{ " + "a: availableJobs { name } " * 16 + "}",
        "{ " + "availableJobs { name } " * 400 + "}",
        "{ a" * 5000,
        "{ jobLogs(jobName: " + "[" * 900 + "]" * 900 + ") { id } }",
        '{ jobLogs(jobName: "a\\u0000b") { id } }',
        "subscription { x }",
    ],
    ids=range(11),
)
def test_a_wrong_or_excessive_document_is_an_error_in_the_answer(shared_server: Server, query: str) -> None:
    with shared_server.client() as client:
        answer = ask(client, query)
    assert answer["errors"][0]["message"]
    assert "internal" not in str(answer["errors"])
    assert not [event for event in shared_server.told if isinstance(event, RequestFailed)]


@pytest.mark.parametrize(
    "body",
    [
        "",
        "[]",
        "{}",
        '{"query": 1}',
        '{"query": ""}',
        '{"query": "{a}", "variables": []}',
        '{"query": "query A($n: Int) { jobLogs(limit: $n) { id } }", "variables": {"n": 1e400}}',
        '{"query": "{ availableJobs { name } }", "operationName": "X"}',
        "[" * 100_000,
    ],
)
def test_a_body_that_is_no_request_is_400(shared_client: httpx.Client, body: str) -> None:
    problem(shared_client.post(URL, content=body), 400)


def test_the_shape_may_be_asked_for_with_a_token_only(shared_client: httpx.Client, db: Database) -> None:
    assert ask(shared_client, INTROSPECTION)["data"]["__schema"]["queryType"]["name"] == "Query"
    with serving(db, api=Api(port=0)) as server, server.client(None) as client:
        assert ask(client, "{ availableJobs { name } }")["data"]["availableJobs"]
        refused = ask(client, INTROSPECTION)
        assert refused["data"] is None
        assert "introspection" in refused["errors"][0]["message"].lower()


def test_the_whole_shape_that_tools_ask_for_is_answered(shared_client: httpx.Client) -> None:
    from graphql import get_introspection_query  # noqa: PLC0415 - the one test that needs it

    answer = ask(shared_client, get_introspection_query())
    names = {one["name"]: one for one in answer["data"]["__schema"]["types"]}
    arguments = {
        argument["name"]: argument["defaultValue"]
        for field in names["Query"]["fields"]
        if field["name"] == "jobLogs"
        for argument in field["args"]
    }
    assert arguments == {"jobName": None, "limit": "100", "onlyFailures": "false"}


def test_an_unforeseen_error_keeps_its_words_to_the_log(server: Server, conn: Connection) -> None:
    conn.execute(UNFORESEEN)
    make_job(conn)
    with server.client() as client:
        answer = ask(client, "{ jobLogs { id } }")
    assert answer["data"] is None
    assert "canary" not in str(answer)
    assert "internal" in answer["errors"][0]["message"]
    assert any(isinstance(event, RequestFailed) for event in server.told)
