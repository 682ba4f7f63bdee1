"""What AYB's admin UI asks for and reads, by its own source: `listJobs` and its kin, and the types of their answers.

The UI shows what it is given and checks nothing, so that a key which is missing, or of another type, breaks its page.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import httpx
import pytest

from ayb_jobs.storage.database import Connection
from tests.factories import make_job, make_schedule
from tests.http.answers import problem
from tests.http.conftest import Server

STATES = ("queued", "running", "completed", "failed", "canceled")
NOWHERE = "00000000-0000-4000-8000-000000000000"
Check = Callable[[Any], bool]


def is_text(value: Any) -> bool:
    return isinstance(value, str)


def is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_switch(value: Any) -> bool:
    return isinstance(value, bool)


def is_object(value: Any) -> bool:
    return isinstance(value, dict)


def is_instant(value: Any) -> bool:
    """What JavaScript's `new Date` reads as this very instant."""
    return isinstance(value, str) and value.endswith("Z") and "T" in value and bool(datetime.fromisoformat(value))


def is_state(value: Any) -> bool:
    return value in STATES


class Shape(NamedTuple):
    """An object: keys that stand in it always, and those that the UI takes for null if they are missing."""

    always: Mapping[str, Check]
    maybe: Mapping[str, Check] = {}

    def faults(self, value: Any) -> list[str]:
        """Return what is wrong about a value."""
        if not isinstance(value, dict):
            return [f"{value!r} is no object"]
        missing = [f"{key} is missing" for key in self.always if key not in value]
        checks = {**self.always, **self.maybe}
        wrong = [f"{key} is {value[key]!r}" for key, check in checks.items() if key in value and not check(value[key])]
        return missing + wrong


JOB = Shape(
    {
        "id": is_text, "type": is_text, "payload": is_object, "state": is_state, "runAt": is_instant, "attempts": is_count,
        "maxAttempts": is_count, "createdAt": is_instant, "updatedAt": is_instant,
    },
    {
        "leaseUntil": is_instant, "workerId": is_text, "lastError": is_text, "lastRunAt": is_instant,
        "idempotencyKey": is_text, "scheduleId": is_text, "completedAt": is_instant, "canceledAt": is_instant,
    },
)  # fmt: skip
STATS = Shape(dict.fromkeys(STATES, is_count), {"oldestQueuedAgeSec": is_number})
SCHEDULE = Shape(
    {
        "id": is_text, "name": is_text, "jobType": is_text, "payload": is_object, "cronExpr": is_text, "timezone": is_text,
        "enabled": is_switch, "maxAttempts": is_count, "createdAt": is_instant, "updatedAt": is_instant,
    },
    {"nextRunAt": is_instant, "lastRunAt": is_instant},
)  # fmt: skip


def page_of(shape: Shape) -> Shape:
    """Return the shape of a list: `items`, and `count` as many as they are."""
    return Shape(
        {"items": lambda items: isinstance(items, list) and not any(map(shape.faults, items)), "count": is_count}
    )


class Ui:
    """Sends what the UI sends: its token, JSON only if there is a body, and what a browser adds to it."""

    def __init__(self, server: Server, client: httpx.Client) -> None:
        self._origin = server.url
        self._client = client

    def __call__(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> httpx.Response:
        browsers = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors", "Accept": "*/*"}
        if method != "GET":
            browsers["Origin"] = self._origin
        return self._client.request(method, path, json=body, headers=browsers)

    def read(
        self, shape: Shape, method: str, path: str, body: Mapping[str, Any] | None = None, *, status: int = 200
    ) -> Any:
        """Return an answer that the UI takes for good, after a look at all that it reads of it."""
        answer = self(method, path, body)
        assert answer.status_code == status, (method, path, answer.text)
        found = answer.json()  # the UI decodes each answer but that of a deletion
        assert shape.faults(found) == [], (method, path)
        return found


@pytest.fixture
def ui(server: Server, client: httpx.Client) -> Ui:
    return Ui(server, client)


def test_aybs_ui_lists_filters_retries_and_cancels_jobs(ui: Ui, conn: Connection) -> None:
    ids = {state: make_job(conn, state, type="webhook_delivery_prune", payload={"a": [1]}) for state in STATES}
    make_job(conn, type="other", idempotency_key="k")
    assert ui.read(page_of(JOB), "GET", "/api/admin/jobs")["count"] == 6
    stats = ui.read(STATS, "GET", "/api/admin/jobs/stats")
    assert {state: stats[state] for state in STATES} == dict.fromkeys(STATES, 1) | {"queued": 2}
    for state in STATES:
        found = ui.read(page_of(JOB), "GET", f"/api/admin/jobs?state={state}&type=webhook_delivery_prune")
        assert [job["id"] for job in found["items"]] == [ids[state]]
    assert ui.read(page_of(JOB), "GET", "/api/admin/jobs?type=none") == {"items": [], "count": 0}
    assert ui.read(page_of(JOB), "GET", "/api/admin/jobs?limit=2&offset=4")["count"] == 2
    assert ui.read(JOB, "GET", f"/api/admin/jobs/{ids['running']}")["state"] == "running"
    retried = ui.read(JOB, "POST", f"/api/admin/jobs/{ids['failed']}/retry")
    assert (retried["state"], "lastError" in retried) == ("queued", False)
    assert ui.read(JOB, "POST", f"/api/admin/jobs/{ids['queued']}/cancel")["state"] == "canceled"


def test_aybs_ui_creates_edits_switches_and_deletes_schedules(ui: Ui, conn: Connection) -> None:
    assert ui.read(page_of(SCHEDULE), "GET", "/api/admin/schedules") == {"items": [], "count": 0}
    make_schedule(conn, name="older", payload={"retention_hours": 168})
    form = {"cronExpr": "0 * * * *", "timezone": "UTC", "payload": {}, "enabled": True}
    made = ui.read(
        SCHEDULE,
        "POST",
        "/api/admin/schedules",
        {"name": "hourly", "jobType": "stale_session_cleanup", **form},
        status=201,
    )
    assert {key: made[key] for key in form} == form
    assert "nextRunAt" in made
    at = f"/api/admin/schedules/{made['id']}"
    edited = {"cronExpr": "15 3 * * *", "timezone": "Europe/Berlin", "payload": {"a": {"b": 1.5}}, "enabled": False}
    saved = ui.read(SCHEDULE, "PUT", at, edited)
    assert {key: saved[key] for key in edited} == edited
    assert ui.read(SCHEDULE, "POST", f"{at}/enable")["enabled"] is True
    assert ui.read(SCHEDULE, "POST", f"{at}/disable")["enabled"] is False
    listed = ui.read(page_of(SCHEDULE), "GET", "/api/admin/schedules")
    assert ([each["name"] for each in listed["items"]], listed["count"]) == (["hourly", "older"], 2)
    assert ui("DELETE", at).status_code == 204
    assert ui.read(page_of(SCHEDULE), "GET", "/api/admin/schedules")["count"] == 1


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", f"/api/admin/jobs/{NOWHERE}/retry", None, 409),
        ("POST", f"/api/admin/jobs/{NOWHERE}/cancel", None, 409),
        ("PUT", f"/api/admin/schedules/{NOWHERE}", {"cronExpr": "@hourly", "enabled": True}, 404),
        ("POST", f"/api/admin/schedules/{NOWHERE}/enable", None, 404),
        ("DELETE", f"/api/admin/schedules/{NOWHERE}", None, 404),
        ("POST", "/api/admin/schedules", {"name": "x", "jobType": "x", "cronExpr": "0 0 0 0 0", "timezone": "UTC"}, 400),
        ("POST", "/api/admin/schedules", {"name": "x", "jobType": "x", "cronExpr": "@hourly", "timezone": "Mars"}, 400),
    ],
)  # fmt: skip
def test_aybs_ui_is_told_in_words_what_went_wrong(
    ui: Ui, method: str, path: str, body: Mapping[str, Any] | None, status: int
) -> None:
    assert problem(ui(method, path, body), status)["message"]


def test_aybs_ui_asks_for_its_token_anew_only_if_it_is_wrong(server: Server) -> None:
    with server.client("wrong") as client:
        assert problem(Ui(server, client)("GET", "/api/admin/jobs"), 401)["message"]
