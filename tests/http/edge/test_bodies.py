"""What bodies may cost: nothing without a token, and together no more than their budget."""

import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPResponse

import h11
import pytest

from ayb_jobs.config import Api
from ayb_jobs.http.edge import bodies, connection
from ayb_jobs.storage.connections import Database
from tests.eventually import eventually
from tests.http.conftest import ADMIN, Server, serving

GUARDED = ["/api/admin/jobs", "/api/admin/jobs/bulk", "/api/admin/schedules", "/admin/jobs", "/api/nothing"]


def head(path: str, *lines: str, token: str | None = ADMIN) -> bytes:
    shown = [] if token is None else [f"Authorization: Bearer {token}"]
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: localhost", *shown, *lines, "", ""]).encode()


@contextmanager
def connected(server: Server) -> Iterator[socket.socket]:
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=60) as client:
        yield client


def status(client: socket.socket) -> int:
    return int(client.recv(65536).split(b" ", 2)[1])


def status_of_whole_answer(client: socket.socket) -> int:
    with HTTPResponse(client) as answer:
        answer.begin()
        answer.read()
        return answer.status


@pytest.mark.parametrize("path", GUARDED)
@pytest.mark.parametrize("token", [None, "wrong-token-0123456789-abcdefghijkl"])
def test_the_token_is_looked_at_before_the_body_comes(shared_server: Server, path: str, token: str | None) -> None:
    with connected(shared_server) as client:
        client.sendall(head(path, "Content-Length: 1000", token=token) + b"{")
        assert status(client) == 401


def test_the_token_is_looked_at_before_all_else_that_a_header_says(shared_server: Server) -> None:
    with shared_server.client(None) as client:
        for headers in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
            assert client.post("/api/admin/jobs", headers=headers, content=b"").status_code == 401


def test_no_body_is_waited_for_where_none_is_read(shared_server: Server) -> None:
    with connected(shared_server) as client:
        client.sendall(head("/livez", "Content-Length: 1000", token=None) + b"{")
        assert status(client) == 405


def one_byte_chunks(count: int) -> bytes:
    return b"1\r\n \r\n" * count


@pytest.mark.parametrize("token", [None, ADMIN])
def test_a_body_of_too_many_chunks_is_refused_after_so_many_and_no_more_are_read(
    shared_server: Server, token: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Counter[connection.CountingConnection]()  # by connection, since an earlier test's may still be at its end
    next_event = connection.CountingConnection.next_event

    def counted(self: connection.CountingConnection) -> object:
        event = next_event(self)
        read[self] += isinstance(event, h11.Event)  # not that more is needed, which each segment makes it say
        return event

    monkeypatch.setattr(connection.CountingConnection, "next_event", counted)
    with connected(shared_server) as client:
        client.sendall(head("/api/admin/jobs", "Transfer-Encoding: chunked", token=token))
        client.sendall(one_byte_chunks(20 * connection.MAX_CHUNKS))
        assert status(client) in ({413} if token else {401, 413})
    assert max(read.values()) < connection.MAX_CHUNKS + 100


def test_as_many_chunks_as_allowed_are_a_body(shared_server: Server) -> None:
    with connected(shared_server) as client:
        for _twice in range(2):  # the count begins anew with each request of a connection
            client.sendall(head("/api/admin/jobs", "Transfer-Encoding: chunked"))
            client.sendall(one_byte_chunks(connection.MAX_CHUNKS - 1) + b"2\r\n{}\r\n0\r\n\r\n")
            assert status_of_whole_answer(client) == 400  # a body without a type: it was read


def test_all_bodies_under_way_share_a_budget_that_is_given_back(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies.Budget.__init__, "__defaults__", (250_000,))
    with serving(db) as server, ExitStack() as slow, server.client() as other:
        for _ in range(5):
            client = slow.enter_context(connected(server))
            client.sendall(head("/api/admin/jobs", "Content-Length: 1000000") + b" " * 100_000)

        def is_refused() -> bool:
            answer = other.post("/api/admin/jobs", content=b" " * 100_000)
            assert answer.status_code in {400, 503}
            return answer.status_code == 503 and answer.headers["retry-after"] == "1"

        eventually(is_refused)
        assert other.get("/api/admin/jobs").status_code == 200
        slow.close()
        eventually(lambda: other.post("/api/admin/jobs", content=b" " * 200_000).status_code == 400)


def test_without_tokens_bodies_are_bounded_all_the_same(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies.Budget.__init__, "__defaults__", (1000,))
    with serving(db, api=Api(port=0)) as server, server.client(None) as client:
        assert client.post("/api/admin/jobs", content=b" " * 1001).status_code == 503
        assert client.post("/api/admin/jobs", content=b" " * 999).status_code == 400
