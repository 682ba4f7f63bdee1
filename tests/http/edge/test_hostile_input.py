"""Whatever is sent: no 5xx, and no answer that the OpenAPI document does not allow."""

import json
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from ayb_jobs.events import RequestFailed
from tests.factories import make_job, make_schedule
from tests.http.conftest import ADMIN, Server
from tests.http.operations import OPERATIONS, STREAM

CASES_OF_EACH_OPERATION = 6
IN_THE_SLOW_SUITE = 200
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="session")
def document(fuzzed_server: Server) -> Any:
    return schemathesis.openapi.from_url(f"{fuzzed_server.url}/openapi.json")


@pytest.mark.parametrize("cases", [CASES_OF_EACH_OPERATION, pytest.param(IN_THE_SLOW_SUITE, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_every_generated_case_is_answered_as_documented(document: Any, method: str, path: str, cases: int) -> None:
    operation = document[path][method]
    authorization = {"Authorization": f"Bearer {ADMIN}"}
    valid = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
    invalid = operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)

    @settings(max_examples=cases, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(case=valid | invalid if takes_anything(operation) else valid)
    def answered_as_documented(case: Any) -> None:
        response = case.call(headers={**(case.headers or {}), **authorization}, timeout=30)
        case.validate_response(response, checks=CHECKS)

    answered_as_documented()


def takes_anything(operation: Any) -> bool:
    """Tell whether an operation has a parameter or a body, so that a case can be wrong."""
    return bool(operation.path_parameters or operation.query or operation.headers or operation.body)


def test_every_operation_but_the_endless_stream_is_tried(document: Any) -> None:
    documented = {(result.ok().method.upper(), result.ok().path) for result in document.get_all_operations()}
    assert documented - {STREAM} == set(OPERATIONS)
    assert len(OPERATIONS) * IN_THE_SLOW_SUITE >= 2000


HOSTILE = {
    "empty": "",
    "nul": "\x00",
    "surrogate": "\ud800",
    "long": "x" * 20_000,
    "sql": "'; DROP TABLE _ayb_jobs; --",
    "html": "<script>alert(1)</script>",
    "format": "%s%(x)s{0}${jndi:ldap://x}",
    "number": "9" * 5000,
    "negative": "-99999999999999999999",
    "nan": "NaN",
    "line": "a\r\nX-Injected: 1",
    "path": "../../../../etc/passwd",
    "bidi": "\u202eabc\u2066",
    "emoji": "💩" * 300,
}
QUERIES = [
    ("/api/admin/jobs", ["state", "type", "queue", "limit", "offset", "cursor"]),
    ("/api/admin/audit", ["target", "limit", "before"]),
    ("/api/admin/jobs/{job}/executions", ["limit", "before"]),
]
PATHS = [
    ("GET", "/api/admin/jobs/{id}"),
    ("GET", "/api/admin/jobs/{id}/executions"),
    ("POST", "/api/admin/jobs/{id}/retry"),
    ("POST", "/api/admin/jobs/{id}/cancel"),
    ("GET", "/api/admin/schedules/{id}"),
    ("PUT", "/api/admin/schedules/{id}"),
    ("PATCH", "/api/admin/schedules/{id}"),
    ("DELETE", "/api/admin/schedules/{id}"),
    ("POST", "/api/admin/schedules/{id}/enable"),
    ("POST", "/api/admin/schedules/{id}/trigger"),
]
JOB = {"type": "t", "payload": {}, "queue": "q", "priority": 1, "maxAttempts": 1, "runAt": None, "delaySec": None, "idempotencyKey": None}  # fmt: skip
SCHEDULE = {
    "name": "n", "jobType": "t", "cronExpr": "* * * * *", "timezone": "UTC", "payload": {}, "enabled": True,
    "maxAttempts": 1, "queue": "q", "priority": 1, "catchup": "all", "catchupMax": 1, "catchupWindowSec": 1.0,
    "overlap": "skip", "dst": "once", "jitterSec": 0, "timeoutSec": 1.0, "expectSuccessWithinSec": 1.0,
    "pingUrl": "https://ping.example",
}  # fmt: skip
BODIES: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/api/admin/jobs", JOB),
    ("POST", "/api/admin/schedules", SCHEDULE),
    ("PUT", "/api/admin/schedules/{schedule}", SCHEDULE),
    ("PATCH", "/api/admin/schedules/{schedule}", SCHEDULE),
    ("POST", "/api/admin/jobs/bulk", {"action": "retry", "type": "t", "queue": "q", "dryRun": True}),
    ("POST", "/admin/jobs", {"query": "{ availableJobs { name } }", "variables": None, "operationName": None}),
]
HOSTILE_JSON: dict[str, Any] = {
    **HOSTILE,
    "huge": 10**300,
    "fraction": 0.5,
    "float": 1e308,
    "true": True,
    "null": None,
    "list": [[]] * 100,
    "deep": json.loads("[" * 400 + "]" * 400),
    "object": {"": {"\x00": "\ud800"}},
    "year": "20000-01-01T00:00:00Z",
    "infinity": "infinity",
}


def percent(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode("utf-8", "surrogatepass"))


def is_answered(server: Server, answer: httpx.Response) -> None:
    assert answer.status_code < 500, answer.text
    assert "x-injected" not in answer.headers
    if answer.content:
        answer.json()
    if answer.status_code >= 400:
        assert answer.json()["code"] == answer.status_code
    assert not [event for event in server.told if isinstance(event, RequestFailed)]


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_filters_and_ids_are_answered(fuzzed_server: Server, text: str) -> None:
    server = fuzzed_server
    with server.services.database.connection() as conn:
        job_id = make_job(conn)
    with server.client() as client:
        for path, names in QUERIES:
            for name in names:
                is_answered(server, client.get(f"{path.format(job=job_id)}?{name}={percent(text)}"))
        for method, path in PATHS:
            is_answered(server, client.request(method, path.format(id=percent(text)), json={}))
        for header in ("Idempotency-Key", "traceparent"):
            raw = {header.encode(): text.encode("utf-8", "surrogatepass").translate(None, b"\x00\r\n")}
            is_answered(server, client.post("/api/admin/jobs", json={"type": "t"}, headers=raw))
        assert client.get(f"/api/admin/jobs/{job_id}").json()["state"] == "queued"


@pytest.mark.parametrize("kind", HOSTILE_JSON)
def test_hostile_bodies_are_answered(fuzzed_server: Server, kind: str) -> None:
    server, value = fuzzed_server, HOSTILE_JSON[kind]
    third = list(HOSTILE_JSON).index(kind) % 3
    with server.services.database.connection() as conn:
        schedule = make_schedule(conn)
    with server.client() as client:
        for method, path, body in BODIES:
            for name in [*fields(method, body, third), text_of(value)]:
                sent = {**{key: one for key, one in body.items() if one is not None}, name: value}
                content = json.dumps(sent)
                answer = client.request(method, path.format(schedule=schedule), content=content)
                is_answered(server, answer)
                if answer.status_code == 201 and path == "/api/admin/schedules":
                    client.delete(f"{path}/{answer.json()['id']}")


def fields(method: str, body: dict[str, Any], third: int) -> list[str]:
    """Return the fields that are to hold a value: of a change a third, since it reads them as a creation does."""
    return list(body) if method == "POST" else list(body)[third::3]


def text_of(value: Any) -> str:
    return value if isinstance(value, str) else "unknown"


def test_a_megabyte_in_any_text_field_is_answered(shared_server: Server) -> None:
    with shared_server.client() as client:
        for method, path, body in BODIES:
            for name in body:
                content = json.dumps({**body, name: "x" * 1_000_000})
                answer = client.request(method, path.format(schedule="none"), content=content)
                if path != "/api/admin/jobs" or name != "payload":
                    is_answered(shared_server, answer)
