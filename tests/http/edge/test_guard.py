"""What no request gets past: forged Host and Origin, too large bodies, slow and hostile clients."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

import httpx
import pytest

from ayb_jobs.config import Api
from ayb_jobs.events import RequestFailed
from ayb_jobs.http.edge import connection
from ayb_jobs.http.edge.guard import Doors
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection, Timeouts
from tests.eventually import eventually
from tests.factories import make_job
from tests.http.answers import UNFORESEEN, problem
from tests.http.conftest import ADMIN, Server, serving

MIB = 1024 * 1024


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "evil.example:8091", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1",
        "localhost@evil.example", "evil.example#localhost", "[::1", "localhost:port", "", "xn--lcalhost-54a",
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/api/admin/jobs", "/livez", "/docs", "/metrics", "/admin/jobs"])
def test_a_forged_host_is_refused_on_every_path(shared_client: httpx.Client, host: str, path: str) -> None:
    problem(shared_client.get(path, headers={"Host": host}), 403)


@pytest.mark.parametrize("host", ["localhost", "localhost:9", "LOCALHOST", "127.0.0.1", "127.0.0.1:1", "[::1]:8091"])
def test_loopback_names_are_known(shared_client: httpx.Client, host: str) -> None:
    assert shared_client.get("/api/admin/jobs", headers={"Host": host}).status_code == 200


def test_a_listed_host_is_known(db: Database) -> None:
    api = Api(port=0, admin_token=ADMIN, allowed_hosts=["Jobs.Example"])
    with serving(db, api=api) as server, server.client() as client:
        assert client.get("/livez", headers={"Host": "jobs.example:443"}).status_code == 200
        problem(client.get("/livez", headers={"Host": "example"}), 403)


def test_beyond_loopback_an_address_in_digits_is_known_and_a_name_is_not() -> None:
    doors = Doors(host="0.0.0.0", allowed_hosts=["jobs.example"])
    assert all(map(doors.knows_host, ["10.1.2.3:8091", "[2001:db8::1]", "jobs.example", "localhost"]))
    assert not any(map(doors.knows_host, ["evil.example", "0x0a010203", "167838211", ""]))


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://localhost.evil.example"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "file://"},
        {"Origin": "http://[::1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_page_of_another_site_changes_nothing(
    client: httpx.Client, conn: Connection, headers: dict[str, str]
) -> None:
    job_id = make_job(conn)
    problem(client.post(f"/api/admin/jobs/{job_id}/cancel", headers=headers), 403)
    problem(client.post("/admin/jobs", json={"query": "{ availableJobs { name } }"}, headers=headers), 403)
    assert client.get(f"/api/admin/jobs/{job_id}").json()["state"] == "queued"


def test_our_own_page_and_listed_ones_may_write(db: Database, conn: Connection) -> None:
    api = Api(port=0, admin_token=ADMIN, allowed_origins=["https://ops.example"])
    with serving(db, api=api) as server, server.client() as client:
        for origin in (server.url, "https://ops.example"):
            answer = client.post(f"/api/admin/jobs/{make_job(conn)}/cancel", headers={"Origin": origin})
            assert answer.status_code == 200


def test_no_other_site_can_read_an_answer(shared_client: httpx.Client) -> None:
    answer = shared_client.get("/api/admin/jobs", headers={"Origin": "https://evil.example"})
    assert not [name for name in answer.headers if name.startswith("access-control-")]
    preflight = shared_client.options("/api/admin/jobs", headers={"Origin": "https://evil.example"})
    assert preflight.status_code == 405


def test_every_answer_forbids_storing_guessing_and_framing(shared_client: httpx.Client) -> None:
    for path in ("/api/admin/jobs", "/nothing", "/docs", "/livez"):
        headers = shared_client.get(path).headers
        assert (headers["x-content-type-options"], headers["x-frame-options"]) == ("nosniff", "DENY")
        assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/api/admin/jobs", "/api/admin/schedules", "/api/admin/jobs/bulk", "/admin/jobs"])
def test_a_body_over_a_mebibyte_is_413(shared_client: httpx.Client, path: str) -> None:
    problem(shared_client.post(path, content=b"x" * (MIB + 1)), 413)


def test_a_body_over_a_mebibyte_in_chunks_is_413(shared_client: httpx.Client) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(17):
            yield b"x" * (MIB // 16)

    problem(shared_client.post("/api/admin/jobs", content=chunks()), 413)


def test_a_body_of_a_mebibyte_is_read(client: httpx.Client) -> None:
    frame = len('{"type":"t","payload":""}')
    body = f'{{"type":"t","payload":"{"x" * (MIB - frame)}"}}'
    assert len(body) == MIB
    answer = client.post("/api/admin/jobs", content=body)
    assert answer.status_code == 201


@contextmanager
def raw(server: Server) -> Iterator[socket.socket]:
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as client:
        yield client


def everything(client: socket.socket) -> bytes:
    received = b""
    while chunk := client.recv(65536):
        received += chunk
    return received


def test_an_oversized_header_is_refused_in_the_one_shape(shared_server: Server) -> None:
    with raw(shared_server) as client:
        client.sendall(
            b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Large: " + b"x" * 100_000 + b"\r\n\r\n"
        )
        answer = everything(client)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b'{"code": 431, "message"' in answer


def test_an_oversized_address_is_refused_like_a_header(shared_client: httpx.Client) -> None:
    problem(shared_client.get("/livez?" + "x" * 33_000), 431)


def test_clients_that_ask_nothing_keep_nobody_out(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MAX_CONNECTIONS", 3)
    with serving(db) as server, ExitStack() as idle:
        clients = [idle.enter_context(raw(server)) for _ in range(6)]
        for client in clients[3:]:
            client.sendall(b"GET /liv")
        with server.client(None) as probe:
            assert probe.get("/livez").status_code == 200
        eventually(lambda: is_closed(clients[0]))


def is_closed(client: socket.socket) -> bool:
    client.settimeout(0.05)
    try:
        return client.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def test_beyond_a_number_of_busy_connections_a_further_one_is_refused_until_there_is_room(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "MAX_CONNECTIONS", 1)
    request = f"GET /api/admin/jobs/stream HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {ADMIN}\r\n\r\n"
    with serving(db) as server:
        with raw(server) as watcher:
            watcher.sendall(request.encode())
            assert watcher.recv(12) == b"HTTP/1.1 200"
            with raw(server) as further:
                answer = everything(further)
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b'{"code": 503, "message"' in answer
        eventually(lambda: server.connections() == 0)
        with server.client(None) as client:
            assert client.get("/livez").status_code == 200


@pytest.mark.parametrize("garbage", [b"\x16\x03\x01\x02\x00\x01\x00", b"nonsense\r\n\r\n"])
def test_what_is_no_http_is_refused(shared_server: Server, garbage: bytes) -> None:
    with raw(shared_server) as client:
        client.sendall(garbage + b"\r\n\r\n")
        assert everything(client).startswith(b"HTTP/1.1 400 ")


def test_a_client_that_sends_its_header_or_body_too_slowly_is_cut_off(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "REQUEST_S", 0.3)
    head = b"POST /api/admin/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n"
    with serving(db) as server:
        for start in (b"", b"GE", head, head + b"\r\n{"):
            with raw(server) as client:
                client.sendall(start)
                trickle_until_cut_off(client)


def trickle_until_cut_off(client: socket.socket) -> None:
    """Send a byte now and then, as a slow client would, until the server ends it."""
    client.settimeout(0.05)

    def is_cut_off() -> bool:
        try:
            client.sendall(b"x")
            return client.recv(1) == b""
        except TimeoutError:
            return False
        except OSError:
            return True

    eventually(is_cut_off)


def test_a_client_that_does_not_take_its_answer_is_cut_off(
    db: Database, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "ANSWER_S", 0.3)
    conn.execute(
        "INSERT INTO _ayb_jobs (type, payload) SELECT 't', to_jsonb(repeat('x', 100000)) FROM generate_series(1, 300)"
    )
    request = f"GET /api/admin/jobs?limit=500 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {ADMIN}\r\n\r\n"
    with serving(db) as server, raw(server) as client:
        client.sendall(request.encode())
        eventually(lambda: server.connections() == 1)
        eventually(lambda: server.connections() == 0)
        assert len(everything(client)) < 30_000_000


def test_an_unforeseen_error_is_500_without_its_words_and_is_reported(server: Server, conn: Connection) -> None:
    conn.execute(UNFORESEEN)
    with server.client() as client:
        body = problem(client.get(f"/api/admin/jobs/{make_job(conn)}/executions"), 500)
    assert "canary" not in str(body)
    eventually(lambda: any(isinstance(event, RequestFailed) and "canary" in str(event.error) for event in server.told))


def test_a_database_that_is_gone_is_503() -> None:
    gone = Database("postgresql://127.0.0.1:1/none", timeouts=Timeouts(connect_s=0.5))
    with closing(gone), serving(gone) as server, server.client() as client:
        answer = client.get("/api/admin/jobs")
        problem(answer, 503)
        assert answer.headers["retry-after"] == "1"
        assert client.get("/livez").status_code == 200
        assert client.get("/readyz").status_code == 503


def test_a_question_that_takes_too_long_is_cut_short(db: Database, conn: Connection) -> None:
    with serving(db, read_timeout_s=0.2) as server, server.client() as client, conn.transaction():
        conn.execute("LOCK TABLE _ayb_jobs IN ACCESS EXCLUSIVE MODE")
        assert "0.2 s" in problem(client.get("/api/admin/jobs"), 503)["message"]
