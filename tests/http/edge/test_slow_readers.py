"""Crowds of clients that do not take their answers, or vanish, leave nothing in the log."""

import logging
import socket
from contextlib import ExitStack

import pytest

from ayb_jobs.events import RequestFailed
from ayb_jobs.http.edge import connection
from ayb_jobs.storage.database import Connection, Database
from tests.eventually import eventually
from tests.http.conftest import ADMIN, Server, serving

REQUEST = f"GET /api/admin/jobs?limit=500 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {ADMIN}\r\n\r\n".encode()
PIPELINED = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20
CROWD = 120


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
        "INSERT INTO _ayb_jobs (type, payload) SELECT 't', to_jsonb(repeat('x', 9000)) FROM generate_series(1, 500)"
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
