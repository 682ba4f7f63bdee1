"""An array of jobs over HTTP."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from psycopg import sql

from ayb_jobs.model.actions import ActionTaken
from ayb_jobs.storage.database import Connection
from tests.http.answers import problem
from tests.http.conftest import Server

URL = "/api/admin/jobs"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_an_array_is_enqueued_in_its_order(server: Server, client: httpx.Client, conn: Connection) -> None:
    body = '[{"type": "send_mail"}, {"type": "t", "payload": {"price": 1.10}, "delaySec": 60}, {"type": "t"}]'
    answer = client.post(URL, content=body, headers={"traceparent": TRACE})
    assert answer.status_code == 201
    told = answer.json()
    assert ([job["type"] for job in told["items"]], told["count"], told["created"]) == (["send_mail", "t", "t"], 3, 3)
    assert (told["items"][0]["payload"], told["items"][0]["maxAttempts"]) == ({"to": "nobody"}, 5)
    assert '"price": 1.10' in answer.text
    ids = [job["id"] for job in told["items"]]
    assert ids == sorted(ids)
    rows = conn.execute("SELECT id::text, traceparent FROM _ayb_jobs ORDER BY id").fetchall()
    assert rows == [(id_, TRACE) for id_ in ids]
    counted = ActionTaken(actor="admin", action="jobs.enqueue", target=None, count=3, enqueued={"send_mail": 1, "t": 2})
    assert counted in server.told
    (deed,) = client.get("/api/admin/audit").json()["items"]
    assert (deed["action"], deed["after"]) == ("jobs.enqueue", {"ids": ids, "state": "queued"})


def test_a_thousand_are_taken_and_no_more(client: httpx.Client) -> None:
    told = client.post(URL, json=[{"type": "t"}] * 1000)
    assert (told.status_code, told.json()["created"]) == (201, 1000)
    assert "at most 1000" in problem(client.post(URL, json=[{"type": "t"}] * 1001), 400)["message"]
    assert client.get(f"{URL}/stats").json()["queued"] == 1000


def test_each_key_makes_one_job(client: httpx.Client) -> None:
    first = client.post(URL, json={"type": "t", "idempotencyKey": "a"}).json()
    asked = [{"type": "t", "idempotencyKey": key} for key in ("a", "b", "b")] + [{"type": "t"}]
    told = client.post(URL, json=asked).json()
    ids = [job["id"] for job in told["items"]]
    assert (ids[0], ids[1], told["created"]) == (first["id"], ids[2], 2)
    again = client.post(URL, json=asked[:3])
    assert (again.status_code, [job["id"] for job in again.json()["items"]]) == (200, ids[:3])
    assert client.get(URL).json()["count"] == 3


def test_arrays_with_the_same_unique_keys_in_any_order_never_wait_for_each_other_in_a_circle(
    server: Server, client: httpx.Client, conn: Connection
) -> None:
    name = conn.info.dbname
    conn.execute(sql.SQL("ALTER DATABASE {} SET deadlock_timeout = '20ms'").format(sql.Identifier(name)))
    jobs = [{"type": "t", "uniqueKey": str(number), "onConflict": "replace"} for number in range(40)]

    def call(step: int) -> list[int]:
        with httpx.Client(base_url=client.base_url, headers=client.headers, timeout=30) as own:
            return [own.post(URL, json=jobs[::step]).status_code for _ in range(8)]

    with ThreadPoolExecutor(4) as pool:
        codes = {code for told in pool.map(call, [1, -1, 1, -1]) for code in told}
    assert codes <= {200, 201}
    told = client.post(URL, json=jobs[::-1]).json()["items"]
    assert [client.post(URL, json=job).json()["id"] for job in jobs[::-1]] == [job["id"] for job in told]


def test_an_empty_array_makes_nothing(client: httpx.Client) -> None:
    told = client.post(URL, json=[])
    assert (told.status_code, told.json()) == (200, {"items": [], "count": 0, "created": 0})
    assert client.get("/api/admin/audit").json()["items"] == []


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        ({}, "[1].type"), ({"type": 7}, "[1].type"), ({"type": " "}, "[1].type"), ([], "[1]"), ("t", "[1]"),
        ({"type": "t", "maxAttempts": 0}, "[1].maxAttempts"), ({"type": "t", "payloads": 1}, "[1].payloads"),
        ({"type": "t", "payload": "a\x00"}, "[1].payload"), ({"type": "t", "runAt": "soon"}, "[1].runAt"),
        ({"type": "t", "runAt": "2030-01-31T08:00:00"}, "[1].runAt"),
    ],
)  # fmt: skip
def test_one_bad_job_keeps_all_from_being_made(shared_client: httpx.Client, bad: Any, field: str) -> None:
    assert field in problem(shared_client.post(URL, json=[{"type": "t"}, bad]), 400)["data"]
    assert shared_client.get(URL).json()["count"] == 0


def test_a_key_for_all_is_refused(shared_client: httpx.Client) -> None:
    told = shared_client.post(URL, json=[{"type": "t"}], headers={"Idempotency-Key": "k"})
    assert "idempotencyKey" in problem(told, 400)["data"]
    assert shared_client.get(URL).json()["count"] == 0


def test_jobs_that_a_trigger_drops_are_a_conflict(client: httpx.Client, conn: Connection) -> None:
    conn.execute("CREATE FUNCTION drop_it() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
    conn.execute("CREATE TRIGGER drop_it BEFORE INSERT ON _ayb_jobs FOR EACH ROW EXECUTE FUNCTION drop_it()")
    for key in (None, "k"):
        assert "drops" in problem(client.post(URL, json=[{"type": "t", "idempotencyKey": key}]), 409)["message"]
