"""Enqueueing over HTTP, and changing many jobs at once."""

from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from ayb_jobs.model.actions import ActionTaken
from ayb_jobs.storage.database import Connection
from tests.factories import make_job
from tests.http.answers import problem
from tests.http.conftest import Server

URL = "/api/admin/jobs"
BULK = "/api/admin/jobs/bulk"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_job_is_made_and_due_now(server: Server, client: httpx.Client, conn: Connection) -> None:
    answer = client.post(URL, json={"type": "unheard_of", "payload": {"a": 1}})
    assert answer.status_code == 201
    job = answer.json()
    assert (job["type"], job["payload"], job["state"], job["attempts"]) == ("unheard_of", {"a": 1}, "queued", 0)
    assert (job["queue"], job["priority"], job["maxAttempts"]) == ("default", 2, 3)
    shown = client.get(f"{URL}/{job['id']}").json()
    assert shown.pop("waitReason").startswith("no daemon is alive")
    assert shown == job
    told = ActionTaken(actor="admin", action="job.enqueue", target=job["id"], enqueued={"unheard_of": 1})
    assert told in server.told


def test_a_known_type_brings_its_own_defaults(client: httpx.Client) -> None:
    job = client.post(URL, json={"type": "send_mail"}).json()
    assert (job["payload"], job["maxAttempts"]) == ({"to": "nobody"}, 5)


def test_a_job_can_be_due_later_and_go_elsewhere(client: httpx.Client) -> None:
    body = {"type": "t", "delaySec": 3600, "queue": "slow", "priority": 4, "maxAttempts": 9}
    job = client.post(URL, json=body).json()
    assert (job["queue"], job["priority"], job["maxAttempts"]) == ("slow", 4, 9)
    due = datetime.fromisoformat(job["runAt"]) - datetime.fromisoformat(job["createdAt"])
    assert due == timedelta(hours=1)
    job = client.post(URL, json={"type": "t", "runAt": "2030-01-31T08:00:00+02:00"}).json()
    assert job["runAt"] == "2030-01-31T06:00:00Z"


def test_an_instant_is_taken_in_utc_or_refused_by_name(client: httpx.Client, conn: Connection) -> None:
    job = client.post(URL, json={"type": "t", "runAt": "2030-01-30T23:59:00-23:59"}).json()
    assert job["runAt"] == "2030-01-31T23:58:00Z"
    beyond = "9999-12-31T23:59:59-15:00"
    assert "runAt" in problem(client.post(URL, json={"type": "t", "runAt": beyond}), 400)["data"]
    pause = client.post("/api/admin/queues/default/pause", json={"until": beyond})
    assert "until" in problem(pause, 400)["data"]
    assert "since" in problem(client.get(URL, params={"since": beyond, "queue": "q"}), 400)["data"]
    assert conn.execute("SELECT count(*) FROM _ayb_job_pauses").fetchone() == (0,)


def test_the_same_idempotency_key_gives_the_same_job(client: httpx.Client) -> None:
    first = client.post(URL, json={"type": "t", "payload": 1}, headers={"Idempotency-Key": "once"})
    again = client.post(URL, json={"type": "t", "payload": 2}, headers={"Idempotency-Key": "once"})
    in_body = client.post(URL, json={"type": "t", "idempotencyKey": "once"})
    assert (first.status_code, again.status_code, in_body.status_code) == (201, 200, 200)
    assert first.json() == again.json() == in_body.json()
    assert first.json()["idempotencyKey"] == "once"
    assert client.get(URL).json()["count"] == 1


def test_a_key_that_belongs_to_another_type_is_a_conflict(client: httpx.Client) -> None:
    client.post(URL, json={"type": "t", "idempotencyKey": "once"})
    problem(client.post(URL, json={"type": "other", "idempotencyKey": "once"}), 409)


def test_the_trace_is_carried_to_the_job(client: httpx.Client, conn: Connection) -> None:
    client.post(URL, json={"type": "t"}, headers={"traceparent": TRACE})
    client.post(URL, json={"type": "u"}, headers={"traceparent": "nonsense"})
    rows = conn.execute("SELECT type, traceparent FROM _ayb_jobs ORDER BY type").fetchall()
    assert rows == [("t", TRACE), ("u", None)]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"type": None}, "type"),
        ({"type": ""}, "type"),
        ({"type": "  "}, "type"),
        ({"type": "x" * 101}, "type"),
        ({"type": "a\x00"}, "type"),
        ({"type": 7}, "type"),
        ({"queue": ""}, "queue"),
        ({"priority": 0}, "priority"),
        ({"priority": "high"}, "priority"),
        ({"maxAttempts": 0}, "maxAttempts"),
        ({"maxAttempts": 2**31}, "maxAttempts"),
        ({"runAt": "tomorrow"}, "runAt"),
        ({"runAt": "2030-01-31T08:00:00"}, "runAt"),
        ({"runAt": "2030-01-31T08:00:00Z", "delaySec": 1}, "runAt"),
        ({"delaySec": -1}, "delaySec"),
        ({"delaySec": 1e300}, "delaySec"),
        ({"idempotencyKey": "x" * 256}, "idempotencyKey"),
        ({"payload": {"a\x00": 1}}, "payload"),
        ({"payloads": {}}, "payloads"),
    ],
)
def test_a_wrong_field_is_named_and_nothing_is_made(
    shared_client: httpx.Client, fields: dict[str, Any], field: str
) -> None:
    body = {key: value for key, value in {"type": "t", **fields}.items() if value is not None}
    assert field in problem(shared_client.post(URL, json=body), 400)["data"]
    assert shared_client.get(URL).json()["count"] == 0


@pytest.mark.parametrize(
    "payload",
    [
        '"\\ud800"',
        '{"\\udfff": 1}',
        "1e400",
        "1" * 6000,
        "[" * 100_000 + "]" * 100_000,
        "NaN",
    ],
    ids=["surrogate", "surrogate key", "infinite", "huge", "deep", "NaN"],
)
def test_a_payload_that_cannot_be_kept_is_refused(shared_client: httpx.Client, payload: str) -> None:
    problem(shared_client.post(URL, content=f'{{"type": "t", "payload": {payload}}}'), 400)
    assert shared_client.get(URL).json()["count"] == 0


@pytest.mark.parametrize(
    "payload", ["[" * depth + "]" * depth for depth in (300, 500, 700, 900, 950, 980, 2000)], ids=len
)
def test_a_deep_payload_is_kept_or_refused_but_no_accident(client: httpx.Client, payload: str) -> None:
    answer = client.post(URL, content=f'{{"type": "t", "payload": {payload}}}')
    assert answer.status_code in {201, 400}


def test_every_failed_job_that_matches_is_retried(client: httpx.Client, conn: Connection) -> None:
    for _ in range(3):
        make_job(conn, "failed", type="mail")
    make_job(conn, "failed", type="other")
    make_job(conn, "completed", type="mail")
    tried = client.post(BULK, json={"action": "retry", "type": "mail", "dryRun": True})
    assert tried.json() == {"action": "retry", "dryRun": True, "count": 3, "done": True}
    assert client.get("/api/admin/jobs/stats").json()["failed"] == 4
    done = client.post(BULK, json={"action": "retry", "type": "mail"})
    assert done.json() == {"action": "retry", "dryRun": False, "count": 3, "done": True}
    stats = client.get("/api/admin/jobs/stats").json()
    assert (stats["failed"], stats["queued"], stats["completed"]) == (1, 3, 1)


def test_a_bulk_change_takes_every_part_of_a_filter_and_records_it(client: httpx.Client, conn: Connection) -> None:
    made = {"created_at": "2026-05-01T12:00:00Z", "idempotency_key": "k", "last_error": "OSError: 5 bytes"}
    meant = make_job(conn, "failed", **made)
    make_job(conn, "failed", created_at="2026-05-01T11:00:00Z")
    make_job(conn, "failed", created_at="2026-05-01T13:00:00Z")
    wanted = {
        "idempotencyKey": "k", "since": "2026-05-01T12:00:00Z", "until": "2026-05-01T13:00:00Z", "error": "BYTES",
        "alike": "OSError: <n> bytes",
    }  # fmt: skip
    for key, value in wanted.items():
        found = client.post(BULK, json={"action": "retry", key: value, "dryRun": True}).json()["count"]
        assert found == (2 if key in {"since", "until"} else 1), key
    assert client.post(BULK, json={"action": "retry", **wanted}).json()["count"] == 1
    (deed,) = client.get("/api/admin/audit").json()["items"]
    assert deed["before"]["ids"] == [meant]
    assert deed["before"]["since"] == wanted["since"]
    assert deed["before"]["error"] == wanted["error"]


def test_queued_jobs_are_canceled_in_batches_each_recorded(client: httpx.Client, conn: Connection) -> None:
    conn.execute("INSERT INTO _ayb_jobs (type, queue) SELECT 't', 'doomed' FROM generate_series(1, 2500)")
    make_job(conn)
    done = client.post(BULK, json={"action": "cancel", "queue": "doomed"}).json()
    assert (done["count"], done["done"]) == (2500, True)
    stats = client.get("/api/admin/jobs/stats").json()
    assert (stats["queued"], stats["canceled"]) == (1, 2500)
    deeds = client.get("/api/admin/audit").json()["items"]
    assert [len(deed["before"]["ids"]) for deed in deeds] == [500, 1000, 1000]
    assert len({job_id for deed in deeds for job_id in deed["before"]["ids"]}) == 2500
    assert {(deed["before"]["state"], deed["after"]["state"]) for deed in deeds} == {("queued", "canceled")}


def test_one_call_ends_in_time_and_says_that_more_is_left(client: httpx.Client, conn: Connection) -> None:
    conn.execute("INSERT INTO _ayb_jobs (type) SELECT 't' FROM generate_series(1, 20500)")
    first = client.post(BULK, json={"action": "cancel"}).json()
    second = client.post(BULK, json={"action": "cancel", "cursor": first["nextCursor"]}).json()
    assert [(one["count"], one["done"]) for one in (first, second)] == [(20000, False), (500, True)]
    assert "nextCursor" not in second


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"runAt": "2030-01-31T08:00:00Z", "delaySec": 1}, "runAt"),
        ({"uniqueKey": "k", "onConflict": "debounce"}, "delaySec"),
        ({"uniqueKey": "k", "onConflict": "debounce", "delaySec": 5, "maxWaitSec": 1}, "maxWaitSec"),
        ({"uniqueKey": "k", "uniqueBy": ["a"]}, "uniqueKey"),
        ({"dependsOn": ["x"]}, "dependsOn"),
    ],
)
def test_what_is_wrong_is_named_as_the_caller_named_it(
    shared_client: httpx.Client, fields: dict[str, Any], field: str
) -> None:
    assert list(problem(shared_client.post(URL, json={"type": "t", **fields}), 400)["data"]) == [field]
    body = [{"type": "t"}, {"type": "t", **fields}]
    assert list(problem(shared_client.post(URL, json=body), 400)["data"]) == [f"[1].{field}"]


def test_a_list_names_its_parameter(shared_client: httpx.Client) -> None:
    assert list(problem(shared_client.get(URL, params={"idempotencyKey": "\x00"}), 400)["data"]) == ["idempotencyKey"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "action"),
        ({"action": "delete"}, "action"),
        ({"action": "retry", "type": ""}, "type"),
        ({"action": "retry", "type": "\x00"}, "type"),
        ({"action": "retry", "state": "queued"}, "state"),
        ({"action": "retry", "dryRun": "yes"}, "dryRun"),
        ({"action": "retry", "since": "yesterday"}, "since"),
        ({"action": "retry", "until": "2026-05-01T12:00:00"}, "until"),
        ({"action": "retry", "cursor": "there"}, "cursor"),
    ],
)
def test_a_wrong_bulk_call_is_refused(shared_client: httpx.Client, body: dict[str, Any], field: str) -> None:
    assert field in problem(shared_client.post(BULK, json=body), 400)["data"]
