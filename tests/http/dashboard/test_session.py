"""Who is let in, for how long, and that no other site and no lesser token changes anything."""

import re
import time
import warnings
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from ayb_jobs.config import Api, ApiToken
from ayb_jobs.http.dashboard import session
from ayb_jobs.http.dashboard.pages import router
from ayb_jobs.http.dashboard.session import COOKIE, Sessions
from ayb_jobs.http.edge.auth import Authenticator, tokens_of
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection
from tests.factories import make_job, make_schedule
from tests.http.conftest import ADMIN, OPERATE, READ, Server, serving
from tests.http.dashboard.visiting import Guest, visiting


@pytest.fixture
def guest(server: Server) -> Iterator[Guest]:
    visitor = Guest(server)
    with visitor.client:
        yield visitor


def test_a_stranger_is_asked_for_a_token_and_led_on_to_the_page(guest: Guest) -> None:
    asked = guest.get("/jobs?state=failed")
    assert (asked.headline, asked.form("Log in").fields["next"]) == ("Log in", "/jobs?state=failed")
    wrong = guest.press(asked, "Log in", token="wrong")
    assert (wrong.status, "No token is like this one." in wrong.text) == (403, True)
    assert guest.press(asked, "Log in", token=ADMIN).path == "/jobs?state=failed"
    assert guest.press(guest.get("/"), "Log out").headline == "Log in"
    assert guest.get("/").headline == "Log in"


@pytest.mark.parametrize(
    "path", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "x"]
)
def test_logging_in_leads_nowhere_else(guest: Guest, path: str) -> None:
    answer = guest.client.post(
        "/login", data={"token": ADMIN, "next": path}, headers={"Origin": guest.origin}, follow_redirects=False
    )
    assert answer.headers["location"] == "/"


def test_the_cookie_is_for_this_site_and_its_pages_alone(guest: Guest) -> None:
    def cookie(origin: str) -> str:
        said = {"Origin": origin, "Host": "localhost"}
        return guest.client.post("/login", data={"token": ADMIN}, headers=said, follow_redirects=False).headers[
            "set-cookie"
        ]

    assert re.search("HttpOnly; Path=/; SameSite=strict$", cookie("http://localhost"))
    assert "Secure" in cookie("https://localhost")


def test_the_cookie_opens_no_api(guest: Guest) -> None:
    guest.log_in(ADMIN)
    assert guest.client.get("/api/admin/jobs").status_code == 401


def sessions(token: str = ADMIN) -> Sessions:
    return Sessions(Authenticator(tokens_of(Api(admin_token=token, tokens={"r": ApiToken(token=READ)}))))


def test_any_daemon_with_the_token_takes_a_session_until_the_token_is_replaced() -> None:
    cookie = sessions().open(ADMIN)
    session = sessions().read(cookie)
    assert session is not None
    assert session.caller.name == "admin"
    assert sessions("another-token-0123456789-abcdefghi").read(cookie) is None
    assert sessions().open("wrong") is None
    reader = sessions().read(sessions().open(READ))
    assert reader is not None
    assert reader.caller.name == "r"
    assert reader.form_key != session.form_key


def test_a_session_ends_after_twelve_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    cookie = sessions().open(ADMIN)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 12 * 3600 - 10)
    assert sessions().read(cookie) is not None
    monkeypatch.setattr(time, "time", lambda: now + 12 * 3600 + 1)
    assert sessions().read(cookie) is None


def test_a_forged_cookie_is_none() -> None:
    cookie = sessions().open(ADMIN) or ""
    body, _, signature = cookie.partition(".")
    other = (sessions().open(READ) or "").partition(".")[0]
    for forged in (
        "",
        "x",
        ".",
        body,
        f"{body}.",
        f"{body}.{signature[:-2]}",
        f"{other}.{signature}",
        "é.x",
        "a" * 9999,
        f"{cookie}x",
    ):
        assert sessions().read(forged) is None, forged


ACTS = re.compile(r"(Retry|Cancel|Enqueue|New|Delete|Run|Enable|Disable|Pause|Resume|Set|Change|Remove|Drain)\b")
POSTS = (
    "/jobs/bulk", "/jobs/{job}/retry", "/jobs/{job}/cancel", "/jobs/{job}/run-again", "/enqueue", "/schedules/new", "/schedules/{schedule}",
    "/schedules/{schedule}/trigger", "/schedules/{schedule}/enable", "/schedules/{schedule}/disable",
    "/schedules/{schedule}/delete", "/queues/pause", "/queues/resume", "/queues/limit", "/queues/limit/remove", "/daemons/drain", "/batches/{batch}/seal", "/batches/{batch}/cancel",
)  # fmt: skip
ADMINS = {"/schedules/new", "/schedules/{schedule}", "/schedules/{schedule}/delete", "/daemons/drain"}
FIELDS = {"action": "cancel", "type": "t", "name": "n", "job_type": "t", "cron": "@hourly", "timezone": "UTC", "payload": "{}",
          "kind": "queue", "types": "t", "max_running": "1", "id": "x", "queue": "q", "priority": "2", "max_attempts": "1", "dst": "once", "overlap": "allow", "catchup": "latest"}  # fmt: skip


def state_of(conn: Connection) -> list[object]:
    return [conn.execute(f"SELECT * FROM {table} ORDER BY 1".encode()).fetchall()
            for table in ("_ayb_jobs", "_ayb_job_schedules", "_ayb_job_pauses", "_ayb_job_limits", "_ayb_job_audit")]  # fmt: skip


def routes_that_change(server: Server) -> set[str]:
    """Return every path of the dashboard that takes a form and changes more than the visitor's own cookies."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what pydantic says of FastAPI's own aliases
        routes = router().routes
    paths = {getattr(route, "path", "") for route in routes if "POST" in getattr(route, "methods", ())}
    return paths - {"/login", "/logout", "/zone"}


@pytest.mark.parametrize("token", [READ, OPERATE])
def test_a_token_changes_nothing_beyond_its_scope_by_any_request(server: Server, conn: Connection, token: str) -> None:
    job, schedule = make_job(conn), make_schedule(conn, enabled=False)
    with visiting(server, token) as guest:
        # Looked up once the server has answered: its thread silences warnings, too, while it builds the same routes.
        all_posts = {re.sub(r"{\w+}", "{id}", path) for path in POSTS}
        assert routes_that_change(server) == all_posts
        key = guest.get("/zone").form("Use it").fields["form_key"]
        before = state_of(conn)
        for path in POSTS:
            if token == OPERATE and path not in ADMINS:
                continue
            answer = guest.send(path.format(job=job, schedule=schedule, batch=job), {**FIELDS, "form_key": key})
            assert answer.status == 403, path
        assert state_of(conn) == before


def test_who_may_only_read_sees_no_buttons(server: Server, conn: Connection) -> None:
    job, schedule = make_job(conn, "failed"), make_schedule(conn)
    queued = make_job(conn)
    paths = ("/", "/jobs?state=failed", f"/jobs/{job}", f"/jobs/{queued}", "/failures", "/schedules", f"/schedules/{schedule}",
             "/queues", "/batches", "/daemons", "/audit", "/executions")  # fmt: skip
    with visiting(server, READ) as reader, visiting(server, ADMIN) as admin:
        for path in paths:
            page = reader.get(path)
            assert page.status == 200, path
            assert page.buttons == [], path
            assert not any(ACTS.match(word) for word in page.links), path
        assert [path for path in paths if admin.get(path).buttons]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_form_of_another_site_changes_nothing(server: Server, conn: Connection, headers: dict[str, str]) -> None:
    job = make_job(conn, "failed")
    with visiting(server) as guest:
        key = guest.get("/zone").form("Use it").fields["form_key"]
        assert guest.send(f"/jobs/{job}/retry", {"form_key": key}, **headers).status == 403
    assert conn.execute("SELECT state FROM _ayb_jobs").fetchone() == ("failed",)


@pytest.mark.parametrize(
    ("before", "leads_to"),
    [("/jobs?state=failed", "/jobs?state=failed"), ("//evil.example/x", "/"), ("/\\\\evil.example", "/"), ("", "/")],
)
def test_an_error_leads_back_to_no_page_but_ours(server: Server, before: str, leads_to: str) -> None:
    with visiting(server) as guest:
        page = guest.send("/jobs/none/retry", {"form_key": "wrong"}, Referer=f"https://evil.example{before}")
        assert page.status == 403
        assert page.links["Back to the page"] == leads_to


def test_a_form_without_its_key_or_with_another_sessions_changes_nothing(server: Server, conn: Connection) -> None:
    job = make_job(conn, "failed")
    with visiting(server) as one, visiting(server) as other:
        key = other.get("/zone").form("Use it").fields["form_key"]
        for fields in ({}, {"form_key": ""}, {"form_key": key}, {"form_key": "é"}):
            assert one.send(f"/jobs/{job}/retry", fields).status == 403
    assert conn.execute("SELECT state FROM _ayb_jobs").fetchone() == ("failed",)


def test_an_origin_that_may_use_the_api_may_send_no_form(db: Database, conn: Connection) -> None:
    job = make_job(conn, "failed")
    api = Api(port=0, admin_token=ADMIN, allowed_origins=["https://ops.example"])
    with serving(db, api=api) as server, visiting(server) as guest:
        key = guest.get("/zone").form("Use it").fields["form_key"]
        said = {"Origin": "https://ops.example", "Sec-Fetch-Site": "cross-site"}
        assert guest.send(f"/jobs/{job}/retry", {"form_key": key}, **said).status == 403


def test_a_body_that_is_too_large_or_no_form_is_refused(server: Server) -> None:
    with visiting(server) as guest:
        for content, status in ((b"a=" + b"x" * 2_000_000, 413), (b"\xff\xfe", 400), (b"&".join([b"a=b"] * 1000), 400)):
            said = {"Origin": guest.origin, "Content-Type": "application/x-www-form-urlencoded"}
            assert guest.client.post("/enqueue", content=content, headers=said).status_code == status


def test_the_stream_is_for_those_who_are_logged_in(server: Server, guest: Guest) -> None:
    assert guest.get("/live").headline == "Log in"
    guest.log_in(READ)
    with guest.client.stream("GET", "/live") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert COOKIE in guest.client.cookies


def test_the_stream_ends_with_the_session(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    guest.log_in(READ)
    with guest.client.stream("GET", "/live") as answer:
        lines = answer.iter_lines()
        assert next(lines).startswith("retry")
        over = time.time() + session.LASTS_S
        monkeypatch.setattr(session, "time", SimpleNamespace(time=lambda: over))
        assert all(not line for line in lines)  # and then it is at its end
    assert guest.get("/live").headline == "Log in"
