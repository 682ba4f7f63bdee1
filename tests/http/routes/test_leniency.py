"""What AYB accepts is accepted on AYB's calls; on our own calls, whatever is unknown is refused."""

from typing import Any

import httpx
import pytest

from ayb_jobs.storage.database import Connection
from tests.factories import make_job
from tests.http.answers import problem

JOBS = "/api/admin/jobs"
URL = "/api/admin/schedules"
NEW = {"name": "nightly", "jobType": "stale_session_cleanup", "cronExpr": "0 3 * * *"}


def create(client: httpx.Client, **fields: Any) -> dict[str, Any]:
    answer = client.post(URL, json={**NEW, **fields})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def test_an_empty_zone_is_utc(client: httpx.Client) -> None:
    made = create(client, timezone="")
    assert made["timezone"] == "UTC"
    moved = client.put(f"{URL}/{made['id']}", json={"timezone": "Asia/Tokyo"}).json()
    assert client.put(f"{URL}/{made['id']}", json={"timezone": ""}).json()["timezone"] == "UTC" != moved["timezone"]


def test_an_empty_expression_keeps_the_one_that_is_there(client: httpx.Client) -> None:
    made = create(client)
    kept = client.put(f"{URL}/{made['id']}", json={"cronExpr": ""})
    assert (kept.status_code, kept.json()["cronExpr"]) == (200, made["cronExpr"])
    problem(client.post(URL, json={**NEW, "name": "other", "cronExpr": ""}), 400)


@pytest.mark.parametrize("attempts", [0, -1, -(2**40)])
def test_attempts_below_one_are_the_default(client: httpx.Client, attempts: int) -> None:
    assert create(client, maxAttempts=attempts)["maxAttempts"] == 3


@pytest.mark.parametrize("query", ["limit=abc", "limit=1.5", "limit=", "limit=-5", "offset=abc", "offset=", "limit= 1"])
def test_whatever_is_no_number_is_the_default(client: httpx.Client, conn: Connection, query: str) -> None:
    for _ in range(52):
        make_job(conn)
    assert client.get(f"{JOBS}?{query}").json()["count"] == 50


@pytest.mark.parametrize("path", [f"{JOBS}/", f"{JOBS}/stats/", f"{URL}/", f"{JOBS}/?limit=1"])
def test_a_slash_at_the_end_changes_nothing(shared_client: httpx.Client, path: str) -> None:
    assert shared_client.get(path).json() == shared_client.get(path.replace("/?", "?").removesuffix("/")).json()


def test_a_slash_at_the_end_changes_nothing_where_something_is_changed(client: httpx.Client, conn: Connection) -> None:
    assert client.post(f"{JOBS}/{make_job(conn, 'failed')}/retry/").status_code == 200
    made = client.post(f"{URL}/", json=NEW).json()
    assert client.delete(f"{URL}/{made['id']}/").status_code == 204


def test_unknown_keys_are_passed_over_as_long_as_all_others_are_aybs(client: httpx.Client) -> None:
    made = create(client, colour="blue", Cron="x")
    assert client.put(f"{URL}/{made['id']}", json={"enabled": False, "colour": 1}).json()["enabled"] is False
    assert client.put(f"{URL}/{made['id']}", json={"colour": 1}).status_code == 200
    assert client.get(f"{JOBS}?state=queued&colour=blue").status_code == 200


def test_beside_a_key_of_ours_every_key_has_to_be_known(client: httpx.Client) -> None:
    body = problem(client.post(URL, json={**NEW, "queue": "mail", "prioritty": 1}), 400)
    assert "did you mean priority?" in body["data"]["prioritty"]["message"]
    made = create(client)
    body = problem(client.put(f"{URL}/{made['id']}", json={"overlap": "skip", "enabld": True}), 400)
    assert set(body["data"]) == {"enabld"}
    body = problem(client.get(f"{JOBS}?queue=mail&stat=queued"), 400)
    assert "did you mean state?" in body["data"]["stat"]["message"]
    assert client.get(f"{URL}/{made['id']}").json() == made


def test_put_passes_over_what_ayb_cannot_change(client: httpx.Client) -> None:
    made = create(client)
    changes = {"name": "other", "jobType": "x" * 500, "maxAttempts": "many", "payload": {"a": 1}}
    changed = client.put(f"{URL}/{made['id']}", json=changes).json()
    assert changed["payload"] == {"a": 1}
    for key in ("name", "jobType", "maxAttempts"):
        assert changed[key] == made[key]


def test_patch_changes_all_of_it_and_is_strict(client: httpx.Client) -> None:
    made = create(client)
    path = f"{URL}/{made['id']}"
    changes = {"name": "other", "jobType": "send_mail", "maxAttempts": 9, "queue": "mail", "cronExpr": "5 * * * *"}
    changed = client.patch(path, json=changes).json()
    assert {key: changed[key] for key in changes} == changes
    for wrong in ({"colour": 1}, {"maxAttempts": 0}, {"cronExpr": ""}, {"timezone": ""}, {"id": made["id"]}):
        assert set(problem(client.patch(path, json=wrong), 400)["data"]) == set(wrong)
    assert client.get(path).json() == changed


def test_a_disabled_schedule_keeps_its_next_run_except_by_the_call_that_disables_it(client: httpx.Client) -> None:
    made = create(client)
    path = f"{URL}/{made['id']}"
    assert client.put(path, json={"enabled": False}).json()["nextRunAt"] == made["nextRunAt"]
    assert client.put(path, json={"cronExpr": "0 4 * * *"}).json()["nextRunAt"] != made["nextRunAt"]
    assert "nextRunAt" in create(client, name="second", enabled=False)
    assert "nextRunAt" not in client.post(f"{path}/disable").json()


@pytest.mark.parametrize(
    ("path", "query", "meant"),
    [
        (f"{JOBS}/{{job}}/executions", "limt=5", "limit"),
        ("/api/admin/audit", "before_=5", "before"),
        ("/api/admin/workers", "all=true", None),
        (f"{JOBS}/stream", "state=failed", None),
        (f"{URL}/nightly", "verbose=1", None),
    ],
)
def test_an_unknown_parameter_of_our_own_calls_is_refused(
    client: httpx.Client, conn: Connection, path: str, query: str, meant: str | None
) -> None:
    create(client)
    body = problem(client.get(f"{path.format(job=make_job(conn))}?{query}"), 400)
    ((name, told),) = body["data"].items()
    assert name == query.split("=", maxsplit=1)[0]
    assert (f"did you mean {meant}?" in told["message"]) == (meant is not None)


@pytest.mark.parametrize(("path", "body"), [(JOBS, {"type": "t"}), (f"{JOBS}/bulk", {"action": "retry"})])
def test_an_unknown_key_or_parameter_of_a_change_of_ours_is_refused(
    client: httpx.Client, conn: Connection, path: str, body: dict[str, Any]
) -> None:
    problem(client.post(f"{path}?dryRun=true", json=body), 400)
    assert set(problem(client.post(path, json={**body, "colour": "blue"}), 400)["data"]) == {"colour"}
    assert client.get(JOBS).json()["count"] == 0


NUMBERS = ["1.10", "0.1000000000000000055511151231257827", "12345678901234567890.5", "123456789012345678901234567890"]


@pytest.mark.parametrize("number", NUMBERS)
def test_the_digits_of_a_payloads_numbers_are_kept_to_the_row(
    client: httpx.Client, conn: Connection, number: str
) -> None:
    payload = f'{{"n": {number}, "deep": [{{"m": {number}}}]}}'
    made = client.post(JOBS, content=f'{{"type": "t", "payload": {payload}, "delaySec": 1.5}}')
    assert f'"n": {number}' in made.text
    schedule = client.post(URL, content=f'{{"name": "n", "jobType": "t", "cronExpr": "@daily", "payload": {payload}}}')
    assert f'"n": {number}' in schedule.text
    path = f"{URL}/{schedule.json()['id']}"
    assert f'"n": {number}' in client.put(path, content=f'{{"payload": {payload}}}').text
    assert f'"n": {number}' in client.patch(path, content=f'{{"payload": {payload}, "jitterSec": 2.5}}').text
    rows = conn.execute("SELECT payload::text FROM _ayb_jobs UNION ALL SELECT payload::text FROM _ayb_job_schedules")
    assert [f'"m": {number}' in row[0] for row in rows] == [True, True]


@pytest.mark.parametrize("number", ["1e400", "-1e400", "1e-400", "9" * 5000])
def test_a_number_that_no_handler_could_compute_with_is_refused(shared_client: httpx.Client, number: str) -> None:
    problem(shared_client.post(JOBS, content=f'{{"type": "t", "payload": {{"n": {number}}}}}'), 400)
