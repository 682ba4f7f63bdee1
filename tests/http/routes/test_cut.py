"""Values of any size, written by whoever may write rows, keep no list from being shown."""

import json

import httpx
import pytest
from psycopg.sql import SQL

from ayb_jobs.storage.database import Connection
from tests.factories import make_job, make_schedule

HUGE = SQL("repeat('x', 20000000)")
HUGE_JSON = SQL("to_jsonb((SELECT string_agg(md5(n::text), '') FROM generate_series(1, 200000) AS n))")
SMALL = 200_000


def shown(client: httpx.Client, path: str, most: int = SMALL) -> str:
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    assert len(answer.content) < most, path
    assert isinstance(answer.json(), dict)
    return answer.text


@pytest.mark.parametrize("state", ["failed", "queued", "running"])
def test_a_list_of_jobs_cuts_what_is_too_large_and_says_so(client: httpx.Client, conn: Connection, state: str) -> None:
    for _ in range(2):
        make_job(conn, state, last_error=HUGE, payload=HUGE_JSON, progress=HUGE_JSON)
    text = shown(client, f"/api/admin/jobs?state={state}")
    (job, *_) = json.loads(text)["items"]
    assert job["lastError"].endswith(" … cut: it has 20000000 bytes; show the job to see more")
    assert job["lastError"].startswith("x" * 17_000)
    assert "cut" in job["payload"]
    assert "cut" in job["progress"]


def test_a_list_cuts_at_a_bound_of_its_own_far_below_that_of_one_job(client: httpx.Client, conn: Connection) -> None:
    """A page has up to 500 jobs, so what is small for one job is too large in a list."""
    stored = SQL("to_jsonb((SELECT string_agg(md5(n::text), '') FROM generate_series(1, 600) AS n))")
    make_job(conn, "failed", last_error="x" * 17_001, payload=stored, progress=stored)
    (listed,) = json.loads(shown(client, "/api/admin/jobs"))["items"]
    too_large = "cut: too large for a list; show the job to see it"
    assert (listed["payload"], listed["progress"]) == (too_large, too_large)
    assert listed["lastError"] == "x" * 17_000 + " … cut: it has 17001 bytes; show the job to see more"
    whole = client.get(f"/api/admin/jobs/{listed['id']}").json()
    assert (len(whole["payload"]), len(whole["progress"]), len(whole["lastError"])) == (19_200, 19_200, 17_001)


def test_one_job_shows_more_of_itself_within_a_bound(client: httpx.Client, conn: Connection) -> None:
    small = make_job(
        conn, "failed", last_error=SQL("repeat('x', 500000)"), payload=SQL("to_jsonb(repeat('x', 2000000))")
    )
    job = client.get(f"/api/admin/jobs/{small}").json()
    assert (len(job["lastError"]), len(job["payload"])) == (500_000, 2_000_000)
    huge = make_job(conn, "failed", last_error=HUGE, payload=HUGE_JSON)
    job = json.loads(shown(client, f"/api/admin/jobs/{huge}", 2_000_000))
    assert job["lastError"].endswith(" … cut: it has 20000000 bytes")
    assert job["payload"] == "cut: it is stored in more than 4 MiB"


def test_what_a_daemon_writes_is_whole_in_a_list(client: httpx.Client, conn: Connection) -> None:
    make_job(conn, "failed", last_error="ä" * 8000, payload={"a": "x" * 15_000})
    job = client.get("/api/admin/jobs").json()["items"][0]
    assert (len(job["lastError"]), len(job["payload"]["a"])) == (8000, 15_000)


def test_attempts_audit_and_schedules_are_cut_too(client: httpx.Client, conn: Connection) -> None:
    job_id = make_job(conn, "failed", last_error=HUGE)
    conn.execute(
        """
        INSERT INTO _ayb_job_executions (id, job_id, job_type, attempt, outcome, error, started_at, ended_at)
        VALUES (1, %s, 't', 1, 'failed', repeat('x', 20000000), now(), now())
        """,
        (job_id,),
    )
    make_schedule(conn, last_error=HUGE, payload=HUGE_JSON)
    assert "cut: it has 20000000 bytes" in shown(client, f"/api/admin/jobs/{job_id}/executions")
    answer = client.post("/admin/jobs", json={"query": "{ jobLogs { errorMessage } }"})
    assert len(answer.content) < SMALL
    assert client.post(f"/api/admin/jobs/{job_id}/retry").status_code == 200
    shown(client, "/api/admin/audit")
    assert "cut" in shown(client, "/api/admin/schedules")
