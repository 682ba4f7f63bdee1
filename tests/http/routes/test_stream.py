"""The stream of job changes."""

import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest

from ayb_jobs.http import pacing
from ayb_jobs.http.routes import stream
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue.changes import Look, look_for_changes
from tests.eventually import eventually
from tests.factories import make_job
from tests.http.answers import problem
from tests.http.conftest import READ, Server, serving

URL = "/api/admin/jobs/stream"


class Watcher:
    """Reads a stream in a thread of its own."""

    def __init__(self, lines: Iterator[str]) -> None:
        self.events: list[tuple[str, Any]] = []
        self.comments = 0
        self.opened = threading.Event()
        self.ended = threading.Event()
        threading.Thread(target=self._read, args=(lines,), daemon=True).start()

    def _read(self, lines: Iterator[str]) -> None:
        name = ""
        try:
            for line in lines:
                self.opened.set()
                field, _, value = line.partition(": ")
                if field == "event":
                    name = value
                elif field == "data":
                    self.events.append((name, json.loads(value)))
                elif field == "":
                    self.comments += 1
        except httpx.HTTPError:
            pass
        self.ended.set()

    def states(self, job_id: str) -> list[str]:
        return [data["state"] for name, data in self.events if name == "job" and data["id"] == job_id]


@contextmanager
def watching(server: Server) -> Iterator[Watcher]:
    with server.client(READ) as client, client.stream("GET", URL) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        watcher = Watcher(answer.iter_lines())
        assert watcher.opened.wait(10)
        try:
            yield watcher
        finally:
            # Closing alone would leave the reading thread, and with it the connection, waiting for more.
            answer.extensions["network_stream"].get_extra_info("socket").shutdown(socket.SHUT_RDWR)
            assert watcher.ended.wait(10)


def change(conn: Connection, job_id: str, state: str) -> None:
    conn.execute("UPDATE _ayb_jobs SET state = %s, updated_at = now() WHERE id = %s", (state, job_id))


def test_every_watcher_sees_each_change_and_none_from_before(server: Server, conn: Connection) -> None:
    old = make_job(conn)
    with watching(server) as one, watching(server) as other:
        job_id = make_job(conn, payload={"secret": 1})
        for watcher in (one, other):
            eventually(lambda: watcher.states(job_id) == ["queued"])
        change(conn, job_id, "running")
        eventually(lambda: one.states(job_id) == ["queued", "running"])
        change(conn, job_id, "completed")
        for watcher in (one, other):
            eventually(lambda: watcher.states(job_id) == ["queued", "running", "completed"])
        assert one.states(old) == []
        assert "payload" not in one.events[0][1]


def test_what_an_operator_changes_by_hand_is_seen_however_old_the_job(server: Server, conn: Connection) -> None:
    job_id = make_job(conn, "failed", created_at="2020-01-01T00:00:00Z", updated_at="2020-01-01T00:00:00Z")
    conn.execute("INSERT INTO _ayb_jobs (type, updated_at) SELECT 'newer', '2020-01-01' FROM generate_series(1, 1100)")
    with watching(server) as watcher, server.client() as client:
        client.post(f"/api/admin/jobs/{job_id}/retry")
        eventually(lambda: watcher.states(job_id) == ["queued"])
        client.post("/api/admin/jobs/bulk", json={"action": "cancel"})
        eventually(lambda: ("missed", {}) in watcher.events)


def test_a_stream_that_lags_is_told_that_it_missed_some(
    server: Server, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "MOST_WAITING", 5)
    with watching(server) as watcher:
        conn.execute("INSERT INTO _ayb_jobs (type) SELECT 't' FROM generate_series(1, 10)")
        eventually(lambda: watcher.events == [("missed", {})])


def test_a_silent_stream_is_kept_alive(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "KEEP_ALIVE_S", 0.5)
    with watching(server) as watcher:
        eventually(lambda: watcher.comments >= 2)


def test_a_database_outage_is_told_and_outlived(server: Server, conn: Connection) -> None:
    with watching(server) as watcher:
        conn.execute("ALTER TABLE _ayb_jobs RENAME TO away")
        eventually(lambda: ("unavailable", {}) in watcher.events)
        conn.execute("ALTER TABLE away RENAME TO _ayb_jobs")
        job_id = make_job(conn)
        eventually(lambda: watcher.states(job_id) == ["queued"])


def test_streams_are_bounded_and_a_closed_one_makes_room(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MOST_WATCHERS", 1)
    with watching(server), server.client() as client:
        problem(client.get(URL), 503)

    def is_taken_again() -> bool:
        with server.client() as client, client.stream("GET", URL) as answer:
            return answer.status_code == 200

    eventually(is_taken_again)


def test_streams_that_are_asked_for_at_once_are_bounded_too_and_share_their_looks(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[float] = []

    def counted(conn: Connection, ran: Sequence[str]) -> Look:
        looks.append(time.monotonic())
        return look_for_changes(conn, ran)

    monkeypatch.setattr(stream, "MOST_WATCHERS", 5)
    monkeypatch.setattr(stream, "look_for_changes", counted)
    request = f"GET {URL} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {READ}\r\n\r\n"
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    with ExitStack() as opened:
        clients = [opened.enter_context(socket.create_connection((host, int(port)), timeout=10)) for _ in range(20)]
        for client in clients:
            client.sendall(request.encode())
        statuses = Counter(client.recv(12) for client in clients)
        eventually(lambda: len(looks) >= 3)
    assert statuses == {b"HTTP/1.1 200": 5, b"HTTP/1.1 503": 15}
    assert looks[2] - looks[0] > 1.9 * stream.LOOK_S


def test_a_look_that_takes_long_is_taken_more_rarely(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[float] = []

    def counted(conn: Connection, ran: Sequence[str]) -> Look:
        looks.append(time.monotonic())
        return look_for_changes(conn, ran)

    monkeypatch.setattr(stream, "look_for_changes", counted)
    monkeypatch.setattr(stream, "LOOK_S", 0.0)
    monkeypatch.setattr(pacing, "COST", 10.0**9)
    monkeypatch.setattr(pacing, "MOST_S", 1.5)
    with watching(server):
        eventually(lambda: len(looks) >= 3)
    assert looks[2] - looks[0] > 1.9 * pacing.MOST_S


def test_stopping_ends_open_streams(db: Database) -> None:
    with serving(db) as server, watching(server) as watcher:
        server.services.stopping.set()
        assert watcher.ended.wait(10)
