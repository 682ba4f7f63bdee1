"""Who may do what."""

import httpx
import pytest

from ayb_jobs.config import Api, ApiToken
from ayb_jobs.http.edge.auth import Authenticator, Token
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection
from tests.factories import make_job, make_schedule
from tests.http.answers import problem
from tests.http.conftest import ADMIN, OPERATE, READ, Server, serving

MISSING = "00000000-0000-4000-8000-000000000000"
NEW = {"name": "n", "jobType": "send_mail", "cronExpr": "* * * * *"}

READING = [
    ("GET", "/api/admin/jobs"),
    ("GET", "/api/admin/jobs/stats"),
    ("GET", f"/api/admin/jobs/{MISSING}"),
    ("GET", f"/api/admin/jobs/{MISSING}/executions"),
    ("GET", "/api/admin/schedules"),
    ("GET", f"/api/admin/schedules/{MISSING}"),
    ("GET", "/api/admin/workers"),
    ("GET", "/api/admin/audit"),
    ("POST", "/admin/jobs"),
]
OPERATING = [
    ("POST", "/api/admin/jobs"),
    ("POST", "/api/admin/jobs/bulk"),
    ("POST", f"/api/admin/jobs/{MISSING}/retry"),
    ("POST", f"/api/admin/jobs/{MISSING}/cancel"),
    ("POST", f"/api/admin/jobs/{MISSING}/run-again"),
    ("POST", f"/api/admin/schedules/{MISSING}/enable"),
    ("POST", f"/api/admin/schedules/{MISSING}/disable"),
    ("POST", f"/api/admin/schedules/{MISSING}/trigger"),
]
ADMINISTERING = [
    ("POST", "/api/admin/schedules"),
    ("PUT", f"/api/admin/schedules/{MISSING}"),
    ("PATCH", f"/api/admin/schedules/{MISSING}"),
    ("DELETE", f"/api/admin/schedules/{MISSING}"),
]
OPEN = ["/livez", "/readyz", "/metrics", "/openapi.json", "/docs"]


def status(server: Server, token: str | None, method: str, path: str) -> int:
    with server.client(token) as client:
        return client.request(method, path, content=b"{}" if method in {"POST", "PUT", "PATCH"} else None).status_code


@pytest.mark.parametrize(("method", "path"), READING + OPERATING + ADMINISTERING)
def test_without_a_token_everything_about_jobs_is_401(shared_server: Server, method: str, path: str) -> None:
    with shared_server.client(None) as stranger:
        answer = stranger.request(method, path)
        problem(answer, 401)
        assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("path", OPEN)
def test_health_metrics_and_documentation_need_no_token(shared_server: Server, path: str) -> None:
    assert status(shared_server, None, "GET", path) == 200


@pytest.mark.parametrize(("method", "path"), READING)
def test_a_read_token_looks(shared_server: Server, method: str, path: str) -> None:
    assert status(shared_server, READ, method, path) not in {401, 403}


@pytest.mark.parametrize(("method", "path"), OPERATING + ADMINISTERING)
def test_a_read_token_changes_nothing(shared_server: Server, method: str, path: str) -> None:
    assert status(shared_server, READ, method, path) == 403


@pytest.mark.parametrize(("method", "path"), OPERATING)
def test_an_operate_token_operates(shared_server: Server, method: str, path: str) -> None:
    assert status(shared_server, OPERATE, method, path) not in {401, 403}


@pytest.mark.parametrize(("method", "path"), ADMINISTERING)
def test_an_operate_token_changes_no_schedule(shared_server: Server, method: str, path: str) -> None:
    assert status(shared_server, OPERATE, method, path) == 403


@pytest.mark.parametrize(("method", "path"), READING + OPERATING + ADMINISTERING)
def test_an_admin_token_may_do_everything(shared_server: Server, method: str, path: str) -> None:
    assert status(shared_server, ADMIN, method, path) not in {401, 403}


def test_a_read_token_triggers_nothing_by_graphql(server: Server, conn: Connection) -> None:
    mutation = 'mutation { triggerJob(jobName: "send_mail") { success } }'
    with server.client(READ) as client:
        answer = client.post("/admin/jobs", json={"query": mutation}).json()
    assert "operate" in answer["errors"][0]["message"]
    assert conn.execute("SELECT count(*) FROM _ayb_jobs").fetchone() == (0,)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"Bearer",
        b"Bearer wrong",
        b"Bearer " + ADMIN[:-1].encode(),
        b"Bearer " + ADMIN.encode() + b"x",
        b"Basic " + ADMIN.encode(),
        ADMIN.encode(),
        "Bearer ключ".encode(),
        b"Bearer \xff\xfe\x80",
        b"Bearer " + b"x" * 10_000,
        b"Bearer " + b"x" * 1_000_000,
        b"Bearer " + b"\xc3\xa9" * 500_000,
    ],
    ids=range(12),
)
def test_a_wrong_token_is_401_whatever_it_is(shared_server: Server, value: bytes) -> None:
    with shared_server.client(None) as client:
        problem(client.get("/api/admin/jobs", headers={b"Authorization": value}), 401)


def test_two_authorization_headers_are_401(shared_server: Server) -> None:
    headers = [("Authorization", f"Bearer {ADMIN}"), ("Authorization", "Bearer other")]
    with shared_server.client(None) as client:
        problem(client.get("/api/admin/jobs", headers=headers), 401)


def test_the_scheme_may_be_written_in_any_case(shared_server: Server) -> None:
    with shared_server.client(None) as client:
        answer = client.get("/api/admin/jobs", headers={"Authorization": f"bEaReR {ADMIN}"})
    assert answer.status_code == 200


def test_two_tokens_are_valid_at_once_so_that_one_can_be_replaced(db: Database) -> None:
    old, new = "old-" * 10, "new-" * 10
    api = Api(port=0, admin_token=new, tokens={"previous": ApiToken(token=old, scope="admin")})
    with serving(db, api=api) as server:
        assert status(server, old, "GET", "/api/admin/jobs") == 200
        assert status(server, new, "GET", "/api/admin/jobs") == 200
        assert status(server, "neither" * 10, "GET", "/api/admin/jobs") == 401


def test_a_non_ascii_token_can_be_shown(db: Database) -> None:
    token = "schlüssel-" * 5
    with serving(db, api=Api(port=0, admin_token=token)) as server, server.client(None) as client:
        headers = {b"Authorization": f"Bearer {token}".encode()}
        assert client.get("/api/admin/jobs", headers=headers).status_code == 200


def test_without_any_token_whoever_is_on_this_machine_may_do_everything(db: Database, conn: Connection) -> None:
    job_id = make_job(conn)
    with serving(db, api=Api(port=0)) as server, server.client(None) as client:
        assert client.post("/api/admin/schedules", json=NEW).status_code == 201
        assert client.post(f"/api/admin/jobs/{job_id}/cancel").status_code == 200
        actors = {deed["actor"] for deed in client.get("/api/admin/audit").json()["items"]}
    assert actors == {"local"}


def test_a_disabled_daemon_answers_503_to_every_jobs_and_schedules_call(db: Database) -> None:
    with serving(db, enabled=False) as server:
        with server.client() as client:
            for method, path in READING + OPERATING + ADMINISTERING:
                assert "enabled" in problem(client.request(method, path), 503)["message"]
        with server.client(None) as stranger:
            problem(stranger.get("/api/admin/jobs"), 401)
            assert stranger.get("/livez").status_code == 200


def test_a_token_is_not_shown_by_its_repr() -> None:
    assert ADMIN not in repr(Token(name="admin", secret=ADMIN))
    assert ADMIN not in repr(vars(Authenticator([Token(name="admin", secret=ADMIN)])))


def test_each_change_is_recorded_with_who_what_before_and_after(server: Server, conn: Connection) -> None:
    failed, queued = make_job(conn, "failed", payload={"private": "data"}), make_job(conn)
    schedule = make_schedule(conn, name="s")
    with server.client(OPERATE) as ops, server.client() as admin:
        ops.post(f"/api/admin/jobs/{failed}/retry")
        ops.post(f"/api/admin/jobs/{queued}/cancel")
        ops.post("/api/admin/jobs", json={"type": "send_mail"})
        ops.post(f"/api/admin/schedules/{schedule}/disable")
        ops.post(f"/api/admin/schedules/{schedule}/enable")
        ops.post(f"/api/admin/schedules/{schedule}/trigger")
        ops.post("/api/admin/jobs/bulk", json={"action": "cancel"})
        ops.post("/admin/jobs", json={"query": 'mutation { triggerJob(jobName: "send_mail") { success } }'})
        admin.put(f"/api/admin/schedules/{schedule}", json={"cronExpr": "5 * * * *"})
        admin.delete(f"/api/admin/schedules/{schedule}")
        admin.post("/api/admin/schedules", json=NEW)
        page = admin.get("/api/admin/audit").json()
    deeds = {deed["action"]: deed for deed in page["items"]}
    assert {action: deed["actor"] for action, deed in deeds.items()} == {
        "job.retry": "ops", "job.cancel": "ops", "job.enqueue": "ops", "jobs.cancel": "ops",
        "schedule.disable": "ops", "schedule.enable": "ops", "schedule.trigger": "ops",
        "schedule.update": "admin", "schedule.delete": "admin", "schedule.create": "admin",
    }  # fmt: skip
    retry, update, delete = deeds["job.retry"], deeds["schedule.update"], deeds["schedule.delete"]
    assert (retry["target"], retry["before"]["state"], retry["after"]["state"]) == (failed, "failed", "queued")
    assert "private" not in str(retry)
    assert (update["before"]["cron_expr"], update["after"]["cron_expr"]) == ("* * * * *", "5 * * * *")
    assert (delete["before"]["name"], "after" in delete) == ("s", False)
    assert "before" not in deeds["job.enqueue"]
    assert all(deed["at"].endswith("Z") for deed in page["items"])


def test_a_refused_change_is_not_recorded(client: httpx.Client, conn: Connection) -> None:
    problem(client.post(f"/api/admin/jobs/{make_job(conn)}/retry"), 409)
    problem(client.put(f"/api/admin/schedules/{make_schedule(conn)}", json={"cronExpr": "x"}), 400)
    assert client.get("/api/admin/audit").json()["items"] == []


def test_a_change_and_its_record_are_one_transaction(client: httpx.Client, conn: Connection) -> None:
    job_id = make_job(conn, "failed")
    conn.execute("ALTER TABLE _ayb_job_audit ADD CHECK (action <> 'job.retry')")
    problem(client.post(f"/api/admin/jobs/{job_id}/retry"), 500)
    assert client.get(f"/api/admin/jobs/{job_id}").json()["state"] == "failed"


def test_the_audit_is_paged_and_filtered(client: httpx.Client, conn: Connection) -> None:
    jobs = [make_job(conn) for _ in range(3)]
    for job_id in jobs:
        client.post(f"/api/admin/jobs/{job_id}/cancel")
    first = client.get("/api/admin/audit", params={"limit": 2}).json()
    rest = client.get("/api/admin/audit", params={"limit": 2, "before": first["nextBefore"]}).json()
    assert [deed["target"] for deed in first["items"] + rest["items"]] == jobs[::-1]
    one = client.get("/api/admin/audit", params={"target": jobs[1]}).json()
    assert [deed["target"] for deed in one["items"]] == [jobs[1]]
