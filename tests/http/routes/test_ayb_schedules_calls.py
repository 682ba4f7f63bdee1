"""AYB's calls about schedules: every answer and error that its clients know."""

from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from ayb_jobs.storage.database import Connection
from tests.factories import make_job, make_schedule
from tests.http.answers import problem

MISSING = "00000000-0000-4000-8000-000000000000"
URL = "/api/admin/schedules"
NEW = {"name": "nightly", "jobType": "stale_session_cleanup", "cronExpr": "0 3 * * *"}
REQUIRED = {
    "id", "name", "jobType", "payload", "cronExpr", "timezone", "enabled", "maxAttempts", "createdAt", "updatedAt",
}  # fmt: skip


def create(client: httpx.Client, **fields: Any) -> dict[str, Any]:
    answer = client.post(URL, json={**NEW, **fields})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def test_a_new_schedule_has_ayb_defaults_and_a_next_run(client: httpx.Client) -> None:
    made = create(client)
    assert made.keys() >= REQUIRED | {"nextRunAt"}
    assert (made["timezone"], made["payload"], made["enabled"], made["maxAttempts"]) == ("UTC", {}, True, 3)
    assert datetime.fromisoformat(made["nextRunAt"]) > datetime.now(UTC)
    assert "lastRunAt" not in made
    assert client.get(f"{URL}/{made['id']}").json() == made


def test_everything_given_is_kept(client: httpx.Client) -> None:
    given = {
        "timezone": "Europe/Berlin", "payload": {"retention_hours": 1}, "enabled": False, "maxAttempts": 7,
        "overlap": "skip", "catchup": "all", "dst": "both", "jitterSec": 5, "timeoutSec": 9.5, "priority": 1,
    }  # fmt: skip
    made = create(client, **given)
    assert {key: made[key] for key in given} == given
    assert "nextRunAt" in made  # what a disabled one would do next, as AYB shows it


def test_a_job_type_brings_its_own_number_of_attempts(client: httpx.Client) -> None:
    assert create(client, jobType="send_mail")["maxAttempts"] == 5


def test_schedules_are_listed_by_name(client: httpx.Client) -> None:
    assert client.get(URL).json() == {"items": [], "count": 0}
    for name in ("b", "a", "c"):
        create(client, name=name)
    page = client.get(URL).json()
    assert ([one["name"] for one in page["items"]], page["count"]) == (["a", "b", "c"], 3)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": None}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "a\x00b"}, "name"),
        ({"name": 5}, "name"),
        ({"jobType": None}, "jobType"),
        ({"jobType": "x" * 101}, "jobType"),
        ({"cronExpr": None}, "cronExpr"),
        ({"cronExpr": "often"}, "cronExpr"),
        ({"cronExpr": "0 0 30 2 *"}, "cronExpr"),
        ({"cronExpr": "* * * * * * * *"}, "cronExpr"),
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"enabled": "yes"}, "enabled"),
        ({"maxAttempts": 1.5}, "maxAttempts"),
        ({"maxAttempts": 2**31}, "maxAttempts"),
        ({"payload": {"a": "\x00"}}, "payload"),
        ({"jitterSec": -1}, "jitterSec"),
        ({"overlap": "maybe"}, "overlap"),
        ({"cron": "* * * * *", "queue": "mail"}, "cron"),
    ],
)
def test_a_wrong_field_is_named_and_nothing_is_made(
    shared_client: httpx.Client, fields: dict[str, Any], field: str
) -> None:
    body = {key: value for key, value in {**NEW, **fields}.items() if value is not None}
    assert field in problem(shared_client.post(URL, json=body), 400)["data"]
    assert shared_client.get(URL).json()["count"] == 0


@pytest.mark.parametrize("body", ["", "{", "[]", "null", '"text"', "NaN", '{"name": NaN}', "[" * 100_000])
def test_a_body_that_is_no_json_object_is_refused(shared_client: httpx.Client, body: str) -> None:
    problem(shared_client.post(URL, content=body), 400)
    problem(shared_client.put(f"{URL}/{MISSING}", content=body), 400)


def test_a_name_is_taken_once(client: httpx.Client) -> None:
    create(client)
    assert "nightly" in problem(client.post(URL, json=NEW), 409)["message"]


def test_a_change_keeps_what_it_does_not_name(client: httpx.Client) -> None:
    made = create(client, payload={"a": 1}, timezone="Europe/Berlin")
    answer = client.put(f"{URL}/{made['id']}", json={"payload": {"b": 2}})
    assert answer.status_code == 200
    changed = answer.json()
    assert changed["payload"] == {"b": 2}
    kept = REQUIRED - {"payload", "updatedAt"} | {"nextRunAt"}
    assert {key: changed[key] for key in kept} == {key: made[key] for key in kept}


@pytest.mark.parametrize("change", [{"cronExpr": "0 4 * * *"}, {"timezone": "Asia/Tokyo"}])
def test_a_change_of_timing_computes_the_next_run_anew(client: httpx.Client, change: dict[str, str]) -> None:
    made = create(client)
    changed = client.put(f"{URL}/{made['id']}", json=change).json()
    assert changed["nextRunAt"] != made["nextRunAt"]
    assert datetime.fromisoformat(changed["nextRunAt"]) > datetime.now(UTC)


@pytest.mark.parametrize("how", ["PUT", "enable"])
def test_enabling_computes_the_next_run_from_now(client: httpx.Client, conn: Connection, how: str) -> None:
    schedule_id = make_schedule(conn, enabled=False, next_run_at="2020-01-01T00:00:00Z")
    if how == "PUT":
        answer = client.put(f"{URL}/{schedule_id}", json={"enabled": True})
    else:
        answer = client.post(f"{URL}/{schedule_id}/enable")
    assert answer.status_code == 200
    assert answer.json()["enabled"] is True
    assert datetime.fromisoformat(answer.json()["nextRunAt"]) > datetime.now(UTC)


def test_disabling_takes_the_next_run_away(client: httpx.Client) -> None:
    made = create(client)
    disabled = client.post(f"{URL}/{made['id']}/disable").json()
    assert (disabled["enabled"], "nextRunAt" in disabled) == (False, False)


def test_what_was_got_may_be_sent_back(client: httpx.Client) -> None:
    made = create(client)
    answer = client.put(f"{URL}/{made['id']}", json=made)
    assert answer.status_code == 200, answer.text
    assert {**answer.json(), "updatedAt": ""} == {**made, "updatedAt": ""}


def test_null_takes_a_limit_away(client: httpx.Client) -> None:
    made = create(client, timeoutSec=5)
    assert "timeoutSec" not in client.put(f"{URL}/{made['id']}", json={"timeoutSec": None}).json()


@pytest.mark.parametrize(
    ("change", "field"), [({"cronExpr": "x"}, "cronExpr"), ({"timezone": "x"}, "timezone"), ({"enabled": 1}, "enabled")]
)
def test_a_wrong_change_changes_nothing(client: httpx.Client, change: dict[str, Any], field: str) -> None:
    made = create(client)
    body = problem(client.put(f"{URL}/{made['id']}", json={**change, "payload": {"x": 1}}), 400)
    assert set(body["data"]) == {field}
    assert client.get(f"{URL}/{made['id']}").json() == made


def test_a_deleted_schedule_is_gone_and_its_jobs_stay(client: httpx.Client, conn: Connection) -> None:
    made = create(client)
    job_id = make_job(conn, schedule_id=made["id"])
    answer = client.delete(f"{URL}/{made['id']}")
    assert (answer.status_code, answer.content) == (204, b"")
    problem(client.get(f"{URL}/{made['id']}"), 404)
    assert "scheduleId" not in client.get(f"/api/admin/jobs/{job_id}").json()


def test_a_triggered_schedule_makes_a_job_now_even_while_disabled(client: httpx.Client) -> None:
    made = create(client, enabled=False, payload={"a": 1})
    answer = client.post(f"{URL}/{made['id']}/trigger")
    assert answer.status_code == 201
    job = answer.json()
    assert (job["type"], job["payload"], job["scheduleId"]) == (made["jobType"], {"a": 1}, made["id"])
    assert client.get(f"{URL}/nightly").json() == made


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", MISSING),
        ("PUT", MISSING),
        ("DELETE", MISSING),
        ("POST", f"{MISSING}/enable"),
        ("POST", f"{MISSING}/disable"),
        ("POST", f"{MISSING}/trigger"),
        ("GET", "no_such_name"),
        ("DELETE", "'; DROP TABLE _ayb_jobs --"),
    ],
)
def test_a_missing_schedule_is_404(shared_client: httpx.Client, method: str, path: str) -> None:
    problem(shared_client.request(method, f"{URL}/{path}", json={} if method == "PUT" else None), 404)


def test_the_ping_address_is_kept_secret(client: httpx.Client, conn: Connection) -> None:
    secret = "https://ping.example/c0ffee-canary"
    made = create(client, pingUrl=secret)
    assert made["pingUrlSet"] is True
    client.put(f"{URL}/{made['id']}", json={"pingUrl": f"{secret}2"})
    seen = client.get(URL).text + client.get("/api/admin/audit").text
    assert "canary" not in seen
    assert conn.execute("SELECT ping_url FROM _ayb_job_schedules").fetchone() == (f"{secret}2",)
