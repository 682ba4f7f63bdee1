"""Crowds of clients that do not take their answers, or vanish, leave nothing in the log."""

import logging
import socket
import subprocess
import sys
from contextlib import ExitStack
from subprocess import PIPE

import httpx
import pytest

from ayb_jobs.events import RequestFailed
from ayb_jobs.http.edge import connection
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection
from tests.eventually import eventually
from tests.http.conftest import ADMIN, Server, serving

REQUEST = f"GET /api/admin/jobs?limit=500 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {ADMIN}\r\n\r\n".encode()
PIPELINED = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20
CROWD = 60


FEW_DESCRIPTORS = """
import logging, resource, sys
from ayb_jobs.http import ApiServer

async def hello(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})

logging.basicConfig(level=logging.WARNING)
server = ApiServer(lambda: hello, "127.0.0.1", 0)
server.start()
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
print(server.port, flush=True)
sys.stdin.read()
server.stop()
"""


def connected(server: Server) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=10)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    return client


@pytest.mark.parametrize("sent", [REQUEST, REQUEST * 3, PIPELINED + REQUEST, REQUEST + b"garbage\r\n\r\n"])
@pytest.mark.parametrize("most", [30, 1000])
def test_slow_readers_leave_no_traceback(
    db: Database,
    conn: Connection,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    sent: bytes,
    most: int,
) -> None:
    monkeypatch.setattr(connection, "MAX_CONNECTIONS", most)
    monkeypatch.setattr(connection, "ANSWER_S", 1.0)
    conn.execute(
        "INSERT INTO _ayb_jobs (type, payload) SELECT 't', to_jsonb(repeat('x', 9000)) FROM generate_series(1, 100)"
    )
    caplog.set_level(logging.WARNING)
    with serving(db) as server, ExitStack() as slow:
        clients = [slow.enter_context(connected(server)) for _ in range(CROWD)]
        for client in clients:
            client.sendall(sent)
        for client in clients[::3]:
            client.close()
        eventually(lambda: server.connections() < CROWD // 3, within_s=30)
        with server.client(None) as probe:
            eventually(lambda: probe.get("/livez").status_code == 200)
        told = [event for event in server.told if isinstance(event, RequestFailed)]
    assert told == []
    assert [record.getMessage() + (record.exc_text or "") for record in caplog.records] == []


@pytest.mark.outer
def test_a_lack_of_descriptors_is_told_in_a_line_and_outlived() -> None:
    command = [sys.executable, "-c", FEW_DESCRIPTORS]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        url = f"http://127.0.0.1:{int(process.stdout.readline())}"
        httpx.get(url, timeout=20)  # so that all is imported
        address = ("127.0.0.1", int(url.rpartition(":")[2]))
        with ExitStack() as crowd:
            for _ in range(100):
                crowd.enter_context(socket.create_connection(address, timeout=10))
            assert "no further connection can be accepted" in process.stderr.readline()
        assert httpx.get(url, timeout=20).text == "hello"
        process.stdin.close()
        assert "Traceback" not in process.stderr.read()
