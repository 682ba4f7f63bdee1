"""Jobs that post to an address: what is sent, what the answer means, and what a hostile server costs."""

import json
import signal
import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from ayb_jobs.client.enqueueing import enqueue, enqueue_many
from ayb_jobs.config import load_config
from ayb_jobs.config.display import as_toml
from ayb_jobs.errors import ConfigError
from ayb_jobs.events import AddressGone
from ayb_jobs.handlers.kinds.http import HttpSettings, requesting
from ayb_jobs.handlers.kinds.table import KINDS
from ayb_jobs.handlers.packs import build_registry
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.model.pauses import PauseKind
from ayb_jobs.operations import queues as operations
from ayb_jobs.operations.acting import Actor
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet import pausable
from ayb_jobs.storage.fleet.pauses import list_pauses
from ayb_jobs.storage.fleet.waiting import why_waiting
from ayb_jobs.storage.queue.jobs import get_job
from tests.acceptance.processes import daemon
from tests.eventually import eventually
from tests.factories import make_job
from tests.receiver import Receiver
from tests.running import running

SECRET, OLD_SECRET = "whsec_bmV3IHNlY3JldCwgbmV3IHNlY3JldCwgbmV3", "whsec_b2xkIHNlY3JldCwgb2xkIHNlY3JldCwgb2xk"
ATTEMPTS = """
    INSERT INTO _ayb_job_executions (id, job_id, job_type, attempt, outcome, started_at, ended_at)
    SELECT nextval('_ayb_job_execution_ids'), %(job_id)s, 'resize', 1, outcome, now() - make_interval(hours => %(hours)s), now()
    FROM unnest(%(outcomes)s::text[]) WITH ORDINALITY AS each (outcome, number) ORDER BY number
"""
HAS_ANSWER = "SELECT 1 FROM _ayb_job_executions WHERE job_id = %s AND worker_id IS NOT NULL"
JOB = "SELECT state, attempts, max_attempts, last_error FROM _ayb_jobs WHERE id = %s"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


class Server(socketserver.ThreadingTCPServer):
    """A server that treats each connection as `serve` says, once it has read the request."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, serve: Callable[[socket.socket], None], host: str = "127.0.0.1") -> None:
        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with suppress(OSError):
                    self.request.recv(65536)
                    serve(self.request)

        super().__init__((host, 0), Handler)
        self.url = f"http://{host}:{self.server_address[1]}/"
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()


@contextmanager
def server_that(serve: Callable[[socket.socket], None], host: str = "127.0.0.1") -> Iterator[Server]:
    server = Server(serve, host)
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def types(folder: Path, **job_types: dict[str, Any]) -> Registry:
    file = folder / "ayb-jobs.toml"
    file.write_text(
        "\n".join(
            f"[job_types.{name}]\n" + "\n".join(f"{key} = {json.dumps(value)}" for key, value in settings.items())
            for name, settings in job_types.items()
        )
    )
    return build_registry(load_config(file, kinds=KINDS))


def ended(conn: Connection, job_id: str, *states: str) -> tuple[Any, ...]:
    def row() -> Any:
        found = conn.execute(JOB, (job_id,)).fetchone()
        return found if found and found[0] in states else None

    return tuple(eventually(row, within_s=30))


def test_what_a_request_needs_is_imported_before_the_event_loop_runs(tmp_path: Path) -> None:
    requesting.cache_clear()
    types(tmp_path, resize={"http": "https://app.example.com/"})
    assert requesting.cache_info().currsize == 1


def test_a_job_is_posted_whole_and_signed(
    database_url: str, conn: Connection, receiver: Receiver, tmp_path: Path
) -> None:
    registry = types(
        tmp_path,
        resize={
            "http": f"{receiver.url}/jobs?key=1",
            "secret": SECRET,
            "previous_secret": OLD_SECRET,
            "allow_private": True,
        },
    )
    trace = "00-" + "1" * 32 + "-" + "2" * 16 + "-01"
    job_id = make_job(conn, type="resize", payload={"a": "ü"}, traceparent=trace, scheduled_for="2030-01-31T08:00:00Z")
    conn.execute("""UPDATE _ayb_jobs SET payload = '{"price": 1.10, "a": "ü"}'""")
    with running(database_url, registry):
        ended(conn, job_id, "completed")
    [request] = receiver.requests
    assert request.path == "/jobs?key=1"
    body = json.loads(request.body)
    assert b'"price": 1.10' in request.body
    assert (body["type"], body["data"]) == ("resize", {"price": 1.1, "a": "ü"})
    assert body["job"].pop("runAt")
    assert body["job"] == {
        "id": job_id,
        "attempt": 1,
        "maxAttempts": 3,
        "queue": "default",
        "scheduledFor": "2030-01-31T08:00:00Z",
    }
    headers = request.headers
    assert (headers["webhook-id"], headers["Idempotency-Key"], headers["traceparent"]) == (job_id, job_id, trace)
    assert headers["Content-Type"] == "application/json"
    for secret in (SECRET, OLD_SECRET):
        assert Webhook(secret).verify(request.body, headers) == json.loads(request.body)


def test_each_attempt_bears_the_same_id(
    database_url: str, conn: Connection, receiver: Receiver, tmp_path: Path
) -> None:
    receiver.statuses = [500, 503, 204]
    receiver.headers = {"Retry-After": "1"}
    registry = types(tmp_path, resize={"http": receiver.url, "secret": SECRET, "allow_private": True})
    job_id = make_job(conn, type="resize")
    with running(database_url, registry):
        assert ended(conn, job_id, "completed")[:3] == ("completed", 3, 4)  # the snooze gave its attempt back
    assert [request.headers["webhook-id"] for request in receiver.requests] == [job_id] * 3
    assert [json.loads(request.body)["job"]["attempt"] for request in receiver.requests] == [1, 2, 3]
    for request in receiver.requests:
        Webhook(SECRET).verify(request.body, request.headers)


@pytest.mark.parametrize("after", ["0", "Wed, 21 Oct 2015 07:28:00 GMT"])
def test_a_receiver_that_names_no_time_ahead_uses_attempts_up(
    database_url: str, conn: Connection, receiver: Receiver, tmp_path: Path, after: str
) -> None:
    receiver.status, receiver.headers = 503, {"Retry-After": after}
    registry = types(tmp_path, resize={"http": receiver.url, "allow_private": True})
    job_id = make_job(conn, type="resize", max_attempts=1)
    with running(database_url, registry):
        assert ended(conn, job_id, "failed")[:2] == ("failed", 1)
    assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    ("outcomes", "hours", "state"),
    [
        (["snoozed", "snoozed"], 25, "failed"),
        (["failed", "snoozed"], 25, "failed"),
        (["snoozed"], 23, "queued"),
        (["snoozed", "failed"], 25, "queued"),
        (["snoozed", "lost"], 25, "queued"),
        ([], 0, "queued"),
    ],
    ids=str,
)
def test_a_receiver_that_puts_a_job_off_for_more_than_a_day_uses_up_its_attempts(
    database_url: str, conn: Connection, receiver: Receiver, tmp_path: Path, outcomes: list[str], hours: int, state: str
) -> None:
    receiver.status, receiver.headers = 429, {"Retry-After": "3600"}
    registry = types(tmp_path, resize={"http": receiver.url, "allow_private": True})
    job_id = make_job(conn, type="resize", max_attempts=1)
    conn.execute(ATTEMPTS, {"job_id": job_id, "outcomes": outcomes, "hours": hours})
    with running(database_url, registry):
        eventually(lambda: conn.execute(HAS_ANSWER, (job_id,)).fetchone())
    row = conn.execute(JOB, (job_id,)).fetchone()
    assert row is not None
    assert row[:3] == ((state, 1, 1) if state == "failed" else (state, 1, 2))
    assert (row[3] or "").startswith("it answered 429 Too Many Requests and has put" if state == "failed" else "")
    assert len(receiver.requests) == 1


def test_an_answer_in_json_is_the_result(
    database_url: str, conn: Connection, receiver: Receiver, tmp_path: Path
) -> None:
    receiver.status, receiver.body = 200, b'{"price": 1.10}'
    receiver.headers = {"Content-Type": "application/json; charset=utf-8"}
    registry = types(tmp_path, resize={"http": receiver.url, "allow_private": True})
    with running(database_url, registry):
        first = make_job(conn, type="resize")
        ended(conn, first, "completed")
        receiver.body = b'"' + b"x" * 70_000 + b'"'
        second = make_job(conn, type="resize")
        ended(conn, second, "completed")
        receiver.body = b'{"broken'
        ended(conn, make_job(conn, type="resize"), "completed")
    assert conn.execute("SELECT job_id::text, result::text FROM _ayb_job_results").fetchall() == [
        (first, '{"price": 1.10}')
    ]


def test_a_job_that_is_gone_is_discarded_and_told(
    database_url: str, conn: Connection, receiver: Receiver, tmp_path: Path
) -> None:
    receiver.status = 410
    registry = types(tmp_path, resize={"http": f"{receiver.url}/secret", "allow_private": True})
    job_id = make_job(conn, type="resize")
    with running(database_url, registry) as daemon_:
        assert ended(conn, job_id, "failed") == ("failed", 1, 3, "it answered 410 Gone")
        assert daemon_.recorder.of(AddressGone) == [AddressGone(job_type="resize", host="127.0.0.1")]


def test_the_type_of_an_address_that_is_gone_is_paused_until_it_is_resumed(
    database_url: str, conn: Connection, receiver: Receiver, tmp_path: Path
) -> None:
    receiver.status = 410
    registry = types(tmp_path, resize={"http": receiver.url, "allow_private": True})
    make_job(conn, type="resize", priority=1)
    with running(database_url, registry):
        [pause] = eventually(lambda: list_pauses(conn), within_s=30)
        assert (pause.kind, pause.name, pause.reason) == ("type", "resize", "it answered 410 Gone")
        assert pause.paused_by.startswith("daemon ")
        eventually(lambda: not pausable.find_pausable(conn, PauseKind.TYPE, "resize").waiting_for)
        receiver.status = 200
        waiting = make_job(conn, type="resize")
        assert why_waiting(conn, get_job(conn, waiting)) is not None
        assert len(receiver.requests) == 1
        operations.resume(conn, PauseKind.TYPE, "resize", actor=Actor(name="ada"))
        ended(conn, waiting, "completed")
    deeds = conn.execute("SELECT action, target FROM _ayb_job_audit ORDER BY id").fetchall()
    assert deeds == [("type.pause", "resize"), ("type.resume", "resize")]


def test_a_redirect_to_a_private_address_is_not_followed(
    database_url: str, conn: Connection, receiver: Receiver, tmp_path: Path
) -> None:
    receiver.status = 302
    registry = types(tmp_path, resize={"http": f"{receiver.url}/first", "allow_private": True})
    job_id = make_job(conn, type="resize", max_attempts=1)
    with running(database_url, registry):
        assert ended(conn, job_id, "failed")[3] == "it answered 302 Found; redirects are not followed"
    assert receiver.paths() == ["/first"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "127。0。0。1"])
def test_private_addresses_are_refused_unless_the_type_allows_them(
    database_url: str, conn: Connection, receiver: Receiver, tmp_path: Path, host: str
) -> None:
    port = receiver.url.rpartition(":")[2]
    registry = types(tmp_path, resize={"http": f"http://{host}:{port}/secret"})
    job_id = make_job(conn, type="resize", max_attempts=1)
    with running(database_url, registry):
        error = ended(conn, job_id, "failed")[3]
    assert "lies in a private network; set allow_private = true" in error
    assert "secret" not in error
    assert receiver.requests == []


def test_a_name_is_resolved_once_and_that_address_is_connected_to(
    database_url: str, conn: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that answers with a harmless address first, and with this machine's afterwards."""
    asked: list[str] = []
    resolve = socket.getaddrinfo

    def lookup(host: Any, port: Any, **options: Any) -> Any:
        if host != "changes.example":
            return resolve(host, port, **options)
        asked.append(host)
        return resolve("127.0.0.2" if len(asked) == 1 else "127.0.0.1", port, **options)

    monkeypatch.setattr("socket.getaddrinfo", lookup)
    monkeypatch.setattr("ayb_jobs.handlers.requests.resolving.is_private", lambda found: str(found) != "127.0.0.2")
    with server_that(lambda peer: peer.sendall(b"HTTP/1.1 204 No\r\nConnection: close\r\n\r\n"), "127.0.0.2") as server:
        registry = types(tmp_path, resize={"http": server.url.replace("127.0.0.2", "changes.example")})
        first = make_job(conn, type="resize", max_attempts=1)
        with running(database_url, registry):
            assert ended(conn, first, "completed", "failed")[0] == "completed"
            assert asked == ["changes.example"]


def test_no_proxy_of_the_environment_is_used(
    database_url: str, conn: Connection, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = Receiver()
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.delenv("no_proxy", raising=False)
    registry = types(tmp_path, resize={"http": receiver.url, "allow_private": True})
    with running(database_url, registry):
        ended(conn, make_job(conn, type="resize"), "completed")
    proxy.close()
    assert (len(receiver.requests), proxy.requests) == (1, [])


def test_what_plain_sql_wrote_into_a_job_forges_no_header(
    database_url: str, conn: Connection, receiver: Receiver, tmp_path: Path
) -> None:
    registry = types(tmp_path, resize={"http": receiver.url, "allow_private": True})
    job_id = make_job(conn, type="resize", traceparent="x\r\nX-Forged: 1")
    with running(database_url, registry):
        ended(conn, job_id, "completed")
    assert {"traceparent", "X-Forged"} & receiver.requests[0].headers.keys() == set()


def drips(peer: socket.socket) -> None:
    peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    turn = threading.Event()
    while True:
        peer.sendall(b"x")
        turn.wait(0.05)


def answers_a_gigabyte(peer: socket.socket) -> None:
    peer.sendall(b"HTTP/1.1 500 Broken\r\nContent-Length: 1000000000\r\n\r\n")
    for _ in range(1000):
        peer.sendall(b"x" * 1_000_000)


def answers_a_bomb(peer: socket.socket) -> None:
    peer.sendall(b"HTTP/1.1 400 Bad\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        peer.sendall(b"10000\r\n" + b"\x00" * 0x10000 + b"\r\n")


def resets(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def sends_endless_headers(peer: socket.socket) -> None:
    peer.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        peer.sendall(b"X-More: " + b"a" * 1000 + b"\r\n")


def says_nothing(peer: socket.socket) -> None:
    while peer.recv(65536):
        pass


HOSTILE = {
    "drips": (drips, "timed_out"),
    "gigabyte": (answers_a_gigabyte, "failed"),
    "bomb": (answers_a_bomb, "discarded"),
    "resets": (resets, "failed"),
    "headers": (sends_endless_headers, "failed"),
    "silent": (says_nothing, "timed_out"),
}


def test_hostile_servers_cost_their_own_attempts_and_nothing_else(
    database_url: str, conn: Connection, receiver: Receiver, tmp_path: Path
) -> None:
    servers = {name: Server(serve) for name, (serve, _) in HOSTILE.items()}
    patience_s = {"timed_out": 2, "failed": 30, "discarded": 30}
    settings = {
        name: {"http": server.url, "allow_private": True, "timeout_s": patience_s[HOSTILE[name][1]]}
        for name, server in servers.items()
    }
    innocent = {"http": receiver.url, "allow_private": True}
    registry = types(tmp_path, innocent=innocent, **settings)
    poison = [NewJob(type=name, max_attempts=1) for name in HOSTILE for _ in range(3)]
    innocents = [NewJob(type="innocent", max_attempts=1) for _ in range(1000)]
    enqueue_many(conn, [*innocents[:50], *poison, *innocents[50:]])
    with running(database_url, registry):
        unfinished = "SELECT count(*) FROM _ayb_jobs WHERE state IN ('queued', 'running')"
        eventually(lambda: conn.execute(unfinished).fetchone() == (0,), within_s=60)
    for server in servers.values():
        server.shutdown()
        server.server_close()
    found = conn.execute(
        "SELECT job_type, outcome, count(*) FROM _ayb_job_executions GROUP BY 1, 2 ORDER BY 1"
    ).fetchall()
    assert found == sorted([("innocent", "completed", 1000), *((name, how, 3) for name, (_, how) in HOSTILE.items())])


def test_many_requests_are_in_flight_at_once(database_url: str, conn: Connection, tmp_path: Path) -> None:
    count, all_there = 200, threading.Barrier(200)

    def meets(peer: socket.socket) -> None:
        all_there.wait(30)
        peer.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")

    with server_that(meets) as server:
        server.socket.listen(512)
        registry = types(tmp_path, resize={"http": server.url, "allow_private": True})
        enqueue_many(conn, [NewJob(type="resize", max_attempts=1) for _ in range(count)])
        with running(database_url, registry, worker_concurrency=1):
            completed = "SELECT count(*) FROM _ayb_jobs WHERE state = 'completed'"
            eventually(lambda: conn.execute(completed).fetchone() == (count,), within_s=40)


def test_a_stop_closes_the_request_and_gives_its_attempt_back(
    database_url: str, conn: Connection, tmp_path: Path
) -> None:
    begun = threading.Event()

    def hangs(peer: socket.socket) -> None:
        begun.set()
        says_nothing(peer)

    with server_that(hangs) as server:
        registry = types(tmp_path, resize={"http": server.url, "allow_private": True})
        job_id = make_job(conn, type="resize")
        with running(database_url, registry, shutdown_timeout_s=0.5) as daemon_:
            assert begun.wait(20)
            assert daemon_.daemon.stop() == 0
        assert conn.execute(JOB, (job_id,)).fetchone() == ("queued", 0, 3, None)


def test_the_same_id_comes_again_after_a_daemon_was_killed(database_url: str, conn: Connection, tmp_path: Path) -> None:
    ids: list[str] = []

    def answers_the_second(peer: socket.socket) -> None:
        if len(ids) == 1:
            says_nothing(peer)
        peer.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")

    class Noting(Server):
        def verify_request(self, request: Any, client_address: Any) -> bool:
            head = request.recv(65536, socket.MSG_PEEK).decode().lower()
            ids.append(head.partition("webhook-id: ")[2].partition("\r\n")[0])
            return bool(client_address)

    server = Noting(answers_the_second)
    (tmp_path / "ayb-jobs.toml").write_text(f'[job_types.resize]\nhttp = "{server.url}"\nallow_private = true\n')
    job_id = enqueue(conn, NewJob(type="resize")).id
    with daemon(tmp_path, database_url) as first:
        eventually(lambda: len(ids) == 1, within_s=40)
        first.send(signal.SIGKILL)
        first.wait()
    with daemon(tmp_path, database_url):
        assert ended(conn, job_id, "completed")[:2] == ("completed", 2)
    server.shutdown()
    server.server_close()
    assert ids == [job_id, job_id]


def problems(folder: Path, text: str, environ: dict[str, str] | None = None) -> list[str]:
    file = folder / "ayb-jobs.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as refused:
        load_config(file, environ, kinds=KINDS)
    return [problem.partition(" (/")[0] for problem in refused.value.problems]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("allow_private = true", "http is missing; give an address such as https://app.internal/jobs/resize"),
        ('http = "ftp://a/"', "http is not an http:// or https:// URL"),
        ('http = "http://a:99999/"', "http is not an http:// or https:// URL"),
        ('http = "https://a b/"', "http is not an http:// or https:// URL"),
        ('http = "https://a/\\r\\nX: y"', "http is not an http:// or https:// URL"),
        ('http = "http://"', "http is not an http:// or https:// URL"),
        ('http = "https://["', "http is not an http:// or https:// URL"),
        ('http = "http://2130706433/"', "http has the host 2130706433, which is no address; write its four numbers"),
        ('http = "http://127.1/"', "http has the host 127.1, which is no address"),
        ('http = "http://1.2.3.256/"', "http has the host 1.2.3.256, which is no address"),
        ('http = "https://me:secret@a/"', "http holds a user or a password; leave them out"),
        ('http = "https://a/"\nsecret = "s3cret"', "secret is no secret of Standard Webhooks"),
        (
            'http = "https://a/"\nclient_errors = "ignore"',
            'client_errors is "ignore"; it should be one of discard, retry',
        ),
        ('http = "https://a/"\nexec = ["true"]', "exec and `http` are both set; one job type is one or the other"),
    ],
)
def test_settings_that_post_nothing_are_refused(tmp_path: Path, text: str, told: str) -> None:
    [problem] = problems(tmp_path, f"[job_types.resize]\n{text}")
    assert problem.startswith(f"job_types.resize.{told}")


@pytest.mark.parametrize("address", ["https://a.example?x=a@b", "https://a.example#a@b", "https://a.example/a@b"])
def test_an_at_behind_the_host_is_no_user(tmp_path: Path, address: str) -> None:
    file = tmp_path / "ayb-jobs.toml"
    file.write_text(f'[job_types.resize]\nhttp = "{address}"\n')
    assert set(load_config(file, kinds=KINDS).job_types) == {"resize"}


def test_without_the_extra_a_type_that_posts_is_refused_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ayb_jobs.config.section.find_spec", lambda _name: None)
    assert problems(tmp_path, '[job_types.resize]\nhttp = "https://a.example/"') == [
        "job_types.resize.http needs the extra `http`; install it with: pip install 'ayb-jobs[http]'"
    ]


def test_secrets_come_from_files_and_credentials_and_are_not_shown(tmp_path: Path) -> None:
    (tmp_path / "new").write_text(f"{SECRET}\n")
    (tmp_path / "job_types.resize.previous_secret").write_text(OLD_SECRET)
    file = tmp_path / "ayb-jobs.toml"
    file.write_text(f'[job_types.resize]\nhttp = "https://a.example/"\nsecret_file = "{tmp_path}/new"\n')
    config = load_config(file, {"CREDENTIALS_DIRECTORY": str(tmp_path)}, kinds=KINDS)
    settings = config.job_types["resize"]
    assert isinstance(settings, HttpSettings)
    assert settings.secret_texts == (SECRET, OLD_SECRET)
    assert {SECRET, OLD_SECRET} <= config.secrets()
    shown = as_toml(config) + repr(config)
    assert SECRET not in shown
    assert OLD_SECRET not in shown
