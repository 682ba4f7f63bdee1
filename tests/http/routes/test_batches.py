"""Batches over HTTP: made, shown, listed, filled, sealed and canceled."""

from typing import Any

import httpx
import pytest

from ayb_jobs.storage.database import Connection
from tests.factories import make_job
from tests.storage.queue.test_batches import look
from tests.storage.queue.test_unique import end

API = "/api/admin/batches"
GONE = "01890000-0000-7000-8000-0000000000ff"


def made(client: httpx.Client, **body: Any) -> dict[str, Any]:
    answer = client.post(API, json=body)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def test_a_batch_tells_how_far_it_is_until_it_is_done(client: httpx.Client, conn: Connection) -> None:
    body = {
        "jobs": [{"type": "a", "payload": {"n": n}} for n in range(3)],
        "onDone": {"type": "b", "payload": {"x": 1.10}},
    }
    batch = made(client, description="mails", **body)
    assert batch["state"] == "running"
    assert batch["waitsFor"] == "3 of its 3 jobs to end"
    listed = client.get(f"/api/admin/jobs?batchId={batch['id']}").json()["items"]
    assert {job["batchId"] for job in listed} == {batch["id"]}
    for job, ending in zip(listed, ("completed", "failed", "canceled"), strict=True):
        end(conn, job["id"], ending)
    conn.execute("UPDATE _ayb_jobs SET last_error = 'it broke' WHERE state = 'failed'")
    progress = {
        "queued": 0, "running": 0, "completed": 1, "failed": 1, "canceled": 1, "total": 3, "percent": 100,
        "atLeast": False,
    }  # fmt: skip
    first = {"jobId": listed[1]["id"], "error": "it broke"}
    for _ in range(2):
        seen = client.get(f"{API}/{batch['id']}").json()
        assert (seen["progress"], seen["firstFailure"], seen["description"]) == (progress, first, "mails")
        look(conn)
    assert (seen["state"], seen.get("waitsFor")) == ("failed", None)
    [callback] = client.get(f"{API}/{batch['id']}").json()["callbacks"]
    assert (callback["event"], callback["type"], callback["state"]) == ("done", "b", "queued")
    assert client.get(f"/api/admin/jobs/{callback['jobId']}").json()["payload"]["batch"]["failed"] == 1


def test_an_open_batch_takes_jobs_until_it_is_done(client: httpx.Client, conn: Connection) -> None:
    batch = made(client, open=True)
    assert (batch["state"], batch["waitsFor"]) == ("open", "to be sealed: more jobs may be added")
    job = client.post("/api/admin/jobs", json={"type": "a", "batchId": batch["id"]}).json()
    assert client.get(f"{API}/{batch['id']}").json()["waitsFor"] == "to be sealed, and 1 of its 1 jobs to end"
    assert client.post(f"{API}/{batch['id']}/seal").json()["state"] == "running"
    end(conn, job["id"])
    told = "a daemon that looks at it: all its jobs have ended"
    assert client.get(f"{API}/{batch['id']}").json()["waitsFor"] == told
    look(conn)
    refused = client.post("/api/admin/jobs", json={"type": "a", "batchId": batch["id"]})
    assert (refused.status_code, refused.json()["message"]) == (
        409,
        f"batch {batch['id']} is done; it takes no more jobs",
    )


def test_lists_come_in_pages_and_by_state(client: httpx.Client, conn: Connection) -> None:
    ids = [made(client, open=number == 0)["id"] for number in range(4)]
    look(conn)
    states = {
        state: client.get(f"{API}?state={state}").json()["count"]
        for state in ("open", "running", "succeeded", "failed")
    }
    assert states == {"open": 1, "running": 0, "succeeded": 3, "failed": 0}
    page = client.get(f"{API}?limit=2").json()
    assert [one["id"] for one in page["items"]] == ids[:1:-1]
    rest = client.get(f"{API}?limit=2&before={page['nextBefore']}").json()
    assert [one["id"] for one in rest["items"]] == ids[1::-1]


def test_canceling_a_batch_cancels_what_waits_of_it_and_nothing_else(client: httpx.Client, conn: Connection) -> None:
    other = make_job(conn)
    batch = made(client, jobs=[{"type": "a"}] * 3)
    runs = client.get(f"/api/admin/jobs?batchId={batch['id']}").json()["items"][0]["id"]
    conn.execute(
        "UPDATE _ayb_jobs SET state = 'running', lease_id = gen_random_uuid(), lease_until = now() + interval '1 h' WHERE id = %s",
        (runs,),
    )
    seen = client.post(f"{API}/{batch['id']}/cancel").json()
    assert (seen["progress"]["canceled"], seen["progress"]["running"], seen["state"]) == (2, 1, "running")
    added = client.post("/api/admin/jobs", json={"type": "a", "batchId": batch["id"]})
    assert (added.status_code, added.json()["message"]) == (
        409,
        f"batch {batch['id']} is canceled; it takes no more jobs",
    )
    client.post(f"{API}/{batch['id']}/cancel?running=true")
    asked = conn.execute("SELECT cancel_requested_at IS NOT NULL FROM _ayb_jobs WHERE id = %s", (runs,)).fetchone()
    assert asked == (True,)
    assert conn.execute("SELECT state FROM _ayb_jobs WHERE id = %s", (other,)).fetchone() == ("queued",)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "told"),
    [
        ("get", f"/{GONE}", None, 404, f"there is no batch {GONE}"),
        ("post", f"/{GONE}/seal", None, 404, f"there is no batch {GONE}"),
        ("post", f"/{GONE}/cancel", None, 404, f"there is no batch {GONE}"),
        ("get", "/x", None, 400, "batch_id 'x' is not a UUID"),
        ("post", "", {"jobs": [{"type": ""}]}, 400, "[0].type"),
        ("post", "", {"onDone": {"typ": "a"}}, 400, "typ"),
        ("post", "", {"jobs": [{"type": "a", "batchId": GONE}]}, 400, "the batch is made here"),
        ("post", "", {"jobs": {}}, 400, "jobs is no list"),
        ("post", "", {"onDone": 7}, 400, "onDone is not a JSON object"),
    ],
)
def test_what_is_wrong_is_told(client: httpx.Client, method: str, path: str, body: Any, status: int, told: str) -> None:
    answer = client.get(API + path) if method == "get" else client.post(API + path, json=body)
    assert answer.status_code == status, answer.text
    assert told in answer.text
