"""AYB's calls about jobs: every answer, limit and error that its clients know."""

import json
import re
from datetime import datetime, timedelta
from uuid import uuid4

import httpx
import pytest
from psycopg.sql import SQL

from ayb_jobs.storage.database import Connection
from tests.factories import make_job
from tests.http.answers import problem

MISSING = "00000000-0000-4000-8000-000000000000"
RFC3339_UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
REQUIRED = {"id", "type", "payload", "state", "runAt", "attempts", "maxAttempts", "createdAt", "updatedAt"}


def test_parameters_that_are_left_empty_mean_their_defaults(client: httpx.Client, conn: Connection) -> None:
    for _ in range(2):
        make_job(conn)
    assert client.get("/api/admin/jobs?state=&type=&queue=&limit=&offset=&cursor=").json()["count"] == 2


def test_a_job_is_shown_with_its_keys_in_camel_case_and_null_ones_left_out(
    client: httpx.Client, conn: Connection
) -> None:
    job_id = make_job(conn, payload={"a": [1, None]})
    job = client.get(f"/api/admin/jobs/{job_id}").json()
    assert job.keys() >= REQUIRED
    assert (job["id"], job["type"], job["payload"], job["state"]) == (job_id, "test", {"a": [1, None]}, "queued")
    absent = {
        "leaseUntil",
        "workerId",
        "lastError",
        "lastRunAt",
        "idempotencyKey",
        "scheduleId",
        "completedAt",
        "canceledAt",
    }
    assert not absent & job.keys()
    assert all(RFC3339_UTC.fullmatch(job[key]) for key in ("runAt", "createdAt", "updatedAt"))


def test_a_running_job_shows_its_lease_and_a_finished_one_its_end(client: httpx.Client, conn: Connection) -> None:
    running = client.get(f"/api/admin/jobs/{make_job(conn, 'running', idempotency_key='k')}").json()
    assert running.keys() >= {"leaseUntil", "workerId", "lastRunAt", "idempotencyKey"}
    assert "completedAt" in client.get(f"/api/admin/jobs/{make_job(conn, 'completed')}").json()
    assert "canceledAt" in client.get(f"/api/admin/jobs/{make_job(conn, 'canceled')}").json()
    assert client.get(f"/api/admin/jobs/{make_job(conn, 'failed')}").json()["lastError"] == "it broke"


def test_the_list_is_newest_first_and_counts_this_page(client: httpx.Client, conn: Connection) -> None:
    ids = [make_job(conn, created_at=SQL(f"now() - interval '{age} minutes'")) for age in (3, 1, 2)]
    page = client.get("/api/admin/jobs").json()
    assert [job["id"] for job in page["items"]] == [ids[1], ids[2], ids[0]]
    assert page["count"] == 3
    second = client.get("/api/admin/jobs", params={"limit": 1, "offset": 1}).json()
    assert ([job["id"] for job in second["items"]], second["count"]) == ([ids[2]], 1)


def test_an_empty_list_is_a_list(client: httpx.Client) -> None:
    assert client.get("/api/admin/jobs").json() == {"items": [], "count": 0}


def test_the_list_is_filtered_by_state_and_type(client: httpx.Client, conn: Connection) -> None:
    failed = make_job(conn, "failed", type="mail")
    make_job(conn, "failed", type="other")
    make_job(conn, "queued", type="mail")
    page = client.get("/api/admin/jobs", params={"state": "failed", "type": "mail"}).json()
    assert [job["id"] for job in page["items"]] == [failed]
    assert client.get("/api/admin/jobs", params={"state": "", "type": ""}).json()["count"] == 3


def test_due_jobs_are_listed_in_the_order_in_which_they_become_due(client: httpx.Client, conn: Connection) -> None:
    due = [make_job(conn, type="a", run_at=SQL(f"now() - interval '{n} minutes'"), payload={"n": n}) for n in (3, 2, 1)]
    later = make_job(conn, run_at=SQL("now() + interval '1 hour'"))
    make_job(conn, "failed", type="a")
    first = client.get("/api/admin/jobs?due=true&state=queued&type=a&limit=2").json()
    assert [(job["id"], job["payload"]) for job in first["items"]] == [(due[0], {"n": 3}), (due[1], {"n": 2})]
    rest = client.get("/api/admin/jobs", params={"due": "true", "limit": 2, "cursor": first["nextCursor"]}).json()
    assert ([job["id"] for job in rest["items"]], "nextCursor" in rest) == ([due[2]], False)
    assert [job["id"] for job in client.get("/api/admin/jobs?due=false").json()["items"]] == [later]
    assert client.get("/api/admin/jobs?due=").json()["count"] == 5


@pytest.mark.parametrize(
    ("query", "field"), [("due=yes", "due"), ("due=true&state=failed", "due"), ("due=true&offset=1", "offset")]
)
def test_what_does_not_go_with_due_is_named(shared_client: httpx.Client, query: str, field: str) -> None:
    assert set(problem(shared_client.get(f"/api/admin/jobs?{query}"), 400)["data"]) == {field}


@pytest.mark.parametrize(
    ("limit", "count"),
    [(None, 50), (0, 50), (-1, 50), (-(10**30), 50), (60, 60), (500, 500), (501, 500), (10**30, 500)],
)
def test_a_page_holds_50_by_default_and_at_most_500(
    client: httpx.Client, conn: Connection, limit: int | None, count: int
) -> None:
    conn.execute("INSERT INTO _ayb_jobs (type) SELECT 'many' FROM generate_series(1, 510)")
    page = client.get("/api/admin/jobs", params={} if limit is None else {"limit": limit}).json()
    assert (page["count"], len(page["items"])) == (count, count)


@pytest.mark.parametrize("offset", [0, -5, 10**9, 10**30])
def test_any_offset_is_answered(client: httpx.Client, conn: Connection, offset: int) -> None:
    make_job(conn)
    assert client.get("/api/admin/jobs", params={"offset": offset}).json()["count"] == (1 if offset <= 0 else 0)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("state=done", "state"),
        ("state=Failed", "state"),
        ("type=" + "x" * 101, "type"),
        ("type=a%00b", "type"),
        ("cursor=nonsense", "cursor"),
        ("cursor=%F0%9F", "cursor"),
    ],
)
def test_a_wrong_filter_is_named(shared_client: httpx.Client, query: str, field: str) -> None:
    body = problem(shared_client.get(f"/api/admin/jobs?{query}"), 400)
    assert set(body["data"]) == {field}
    assert body["data"][field].keys() == {"code", "message"}


def test_pages_by_cursor_show_each_job_once_whatever_arrives_meanwhile(client: httpx.Client, conn: Connection) -> None:
    conn.execute("INSERT INTO _ayb_jobs (type) SELECT 'many' FROM generate_series(1, 25)")
    first = client.get("/api/admin/jobs", params={"limit": 10}).json()
    make_job(conn)
    seen = [job["id"] for job in first["items"]]
    cursor = first["nextCursor"]
    while cursor:
        page = client.get("/api/admin/jobs", params={"limit": 10, "cursor": cursor}).json()
        seen += [job["id"] for job in page["items"]]
        cursor = page.get("nextCursor")
    assert len(seen) == len(set(seen)) == 25


def test_the_stats_count_each_state(client: httpx.Client, conn: Connection) -> None:
    assert client.get("/api/admin/jobs/stats").json() == {
        "queued": 0, "running": 0, "completed": 0, "failed": 0, "canceled": 0,
    }  # fmt: skip
    for number, state in enumerate(("queued", "running", "completed", "failed", "canceled"), start=1):
        for _ in range(number):
            make_job(conn, state)
    conn.execute("UPDATE _ayb_jobs SET run_at = now() - interval '90 seconds' WHERE state = 'queued'")
    stats = client.get("/api/admin/jobs/stats").json()
    oldest = stats.pop("oldestQueuedAgeSec")
    assert stats.pop("unclaimable") == {"test": 1}  # no daemon is alive
    assert stats == {"queued": 1, "running": 2, "completed": 3, "failed": 4, "canceled": 5}
    assert 90 <= oldest < 200


def test_a_failed_job_is_retried_due_now_with_all_attempts(client: httpx.Client, conn: Connection) -> None:
    job_id = make_job(conn, "failed", run_at=SQL("now() - interval '1 day'"), crashes=2, last_error="no")
    answer = client.post(f"/api/admin/jobs/{job_id}/retry")
    assert answer.status_code == 200
    job = answer.json()
    assert (job["id"], job["state"], job["attempts"], "lastError" in job) == (job_id, "queued", 0, False)
    due = datetime.fromisoformat(job["runAt"])
    assert due - datetime.fromisoformat(job["updatedAt"]) < timedelta(seconds=1)


def test_a_queued_job_is_canceled(client: httpx.Client, conn: Connection) -> None:
    answer = client.post(f"/api/admin/jobs/{make_job(conn)}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (200, "canceled")
    assert "canceledAt" in answer.json()


@pytest.mark.parametrize("state", ["queued", "running", "completed", "canceled"])
def test_only_failed_jobs_can_be_retried(client: httpx.Client, conn: Connection, state: str) -> None:
    job_id = make_job(conn, state)
    assert state in problem(client.post(f"/api/admin/jobs/{job_id}/retry"), 409)["message"]
    assert client.get(f"/api/admin/jobs/{job_id}").json()["state"] == state


@pytest.mark.parametrize("state", ["running", "completed", "failed", "canceled"])
def test_only_queued_jobs_can_be_canceled(client: httpx.Client, conn: Connection, state: str) -> None:
    job_id = make_job(conn, state)
    assert state in problem(client.post(f"/api/admin/jobs/{job_id}/cancel"), 409)["message"]
    assert client.get(f"/api/admin/jobs/{job_id}").json()["state"] == state


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", f"/api/admin/jobs/{MISSING}", 404),
        ("GET", f"/api/admin/jobs/{MISSING}/executions", 404),
        ("POST", f"/api/admin/jobs/{MISSING}/retry", 409),
        ("POST", f"/api/admin/jobs/{MISSING}/cancel", 409),
        ("GET", "/api/admin/jobs/42", 400),
        ("GET", "/api/admin/jobs/42/executions", 400),
        ("POST", "/api/admin/jobs/42/retry", 400),
        ("POST", "/api/admin/jobs/42/cancel", 400),
        ("GET", "/api/admin/jobs/%00", 400),
        ("GET", "/api/admin/jobs/%F0%9F%92%A9", 400),
        ("GET", "/api/admin/jobs/'%3B%20DROP%20TABLE%20_ayb_jobs", 400),
        ("GET", "/api/admin/jobs/" + "9" * 5000, 400),
        ("GET", "/api/admin/nothing", 404),
        ("GET", "/nothing", 404),
        ("DELETE", "/api/admin/jobs", 405),
        ("GET", f"/api/admin/jobs/{MISSING}/retry", 405),
    ],
)
def test_what_is_not_there_is_refused_in_the_one_shape(
    shared_client: httpx.Client, method: str, path: str, status: int
) -> None:
    problem(shared_client.request(method, path), status)


def test_a_payload_that_python_cannot_decode_is_shown_as_it_is(client: httpx.Client, conn: Connection) -> None:
    digits = "1" * 6000
    deep = "[" * 5000 + "]" * 5000
    big = make_job(conn, payload=SQL(f"'{digits}'::jsonb"))
    nested = make_job(conn, payload=SQL(f"'{deep}'::jsonb"))
    far = make_job(conn, run_at=SQL("'infinity'"))
    for path in (f"/api/admin/jobs/{big}", f"/api/admin/jobs/{nested}", f"/api/admin/jobs/{far}", "/api/admin/jobs"):
        assert client.get(path).status_code == 200
    assert f'"payload":{digits}' in client.get(f"/api/admin/jobs/{big}").text
    assert f'"payload":{deep}' in client.get(f"/api/admin/jobs/{nested}").text
    assert json.loads(client.get(f"/api/admin/jobs/{far}").text)["runAt"].startswith("9999-12-31")


def test_each_attempt_of_a_job_is_listed_newest_first(client: httpx.Client, conn: Connection) -> None:
    job_id = make_job(conn, "running")
    add = """
        INSERT INTO _ayb_job_executions
            (id, job_id, job_type, attempt, outcome, error, records_processed, started_at, ended_at)
        VALUES (%s, %s, 'test', %s, %s, %s, %s, now() - interval '1 hour', now())
    """
    conn.execute("SELECT setval('_ayb_job_execution_ids', 100)")
    conn.execute("UPDATE _ayb_jobs SET execution_id = 100")
    conn.execute(add, (1, job_id, 1, "failed", "it broke", None))
    conn.execute(add, (2, job_id, 2, "completed", None, 7))
    conn.execute(add, (3, str(uuid4()), 1, "completed", None, 7))
    page = client.get(f"/api/admin/jobs/{job_id}/executions").json()
    assert [(one["id"], one.get("outcome")) for one in page["items"]] == [(100, None), (2, "completed"), (1, "failed")]
    assert page["items"][1]["recordsProcessed"] == 7
    assert "endedAt" not in page["items"][0]
    first = client.get(f"/api/admin/jobs/{job_id}/executions", params={"limit": 2}).json()
    rest = client.get(f"/api/admin/jobs/{job_id}/executions", params={"before": first["nextBefore"]}).json()
    assert [one["id"] for one in rest["items"]] == [1]
