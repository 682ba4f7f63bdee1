"""Posting ends in time, whatever the other side does; and it tells nobody the address."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ayb_jobs.config import load_config
from ayb_jobs.errors import ConfigError
from ayb_jobs.runtime.chores.posting import post
from tests.receiver import Receiver
from tests.tls import server_context

TIMEOUT_S = 0.5
Serve = Callable[[socket.socket], None]


class Peer:
    """A server that treats each connection as `serve` says, until the client has gone."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.ended = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with suppress(OSError):
            client, _ = self._listener.accept()
            with client, suppress(OSError):
                self._serve(client)
        self.ended.set()

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def peer_that() -> Iterator[Callable[[Serve], Peer]]:
    peers: list[Peer] = []

    def start(serve: Serve) -> Peer:
        peers.append(Peer(serve))
        return peers[-1]

    yield start
    for peer in peers:
        peer.close()


def drip(client: socket.socket, *pieces: bytes) -> None:
    """Send a piece every twentieth of a second, the last one again and again."""
    turn = threading.Event()
    while True:
        client.sendall(pieces[0])
        pieces = pieces[1:] or pieces
        turn.wait(0.05)


def says_continue(client: socket.socket) -> None:
    drip(client, b"HTTP/1.1 100 Continue\r\n\r\n")


def sends_a_header_bit_by_bit(client: socket.socket) -> None:
    drip(client, b"HTTP/1.1 204 No Content\r\nX-Slow: ", b"a")


def sends_headers_without_end(client: socket.socket) -> None:
    drip(client, b"HTTP/1.1 204 No Content\r\n", b"X-More: a\r\n")


def says_nothing(client: socket.socket) -> None:
    while client.recv(65536):
        pass


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("serve", [says_continue, sends_a_header_bit_by_bit, sends_headers_without_end, says_nothing])
def test_a_server_that_drips_holds_nothing_up(peer_that: Callable[[Serve], Peer], scheme: str, serve: Serve) -> None:
    peer = peer_that(serve)
    error = post(f"{scheme}://{peer.address}/secret", b"x", timeout_s=TIMEOUT_S)
    assert error is not None
    assert "secret" not in error
    assert peer.ended.wait(30), "the connection stays open"


# Posts to each of its arguments, and prints what came of it and whether that took longer than it may.
POSTS = f"""
import sys, time
from ayb_jobs.runtime.chores.posting import post
for url in sys.argv[1:]:
    began = time.monotonic()
    said = post(url, b"x", timeout_s={TIMEOUT_S})
    print(said, time.monotonic() - began < 20)
"""


def test_within_tls_nothing_drips_on_and_no_redirect_is_followed(
    peer_that: Callable[[Serve], Peer], tmp_path: Path
) -> None:
    context, trusted = server_context(tmp_path)
    receiver = Receiver()

    def redirects(client: socket.socket) -> None:
        client.recv(65536)
        client.sendall(f"HTTP/1.1 307 Elsewhere\r\nLocation: {receiver.url}/\r\nContent-Length: 0\r\n\r\n".encode())

    def within_tls(serve: Serve) -> Serve:
        def serve_within(client: socket.socket) -> None:
            with context.wrap_socket(client, server_side=True) as secured:
                serve(secured)

        return serve_within

    drips = [says_continue, sends_a_header_bit_by_bit, sends_headers_without_end, says_nothing]
    peers = [peer_that(within_tls(serve)) for serve in (redirects, *drips)]
    command = [sys.executable, "-c", POSTS, *(f"https://{peer.address}/secret" for peer in peers)]
    environ = os.environ | {"SSL_CERT_FILE": str(trusted)}
    try:
        ended = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=True)
        assert receiver.paths() == []
        assert all(peer.ended.wait(30) for peer in peers)
    finally:
        receiver.close()
    late = f"it did not answer within {TIMEOUT_S:g} s True"
    assert ended.stdout.splitlines() == ["it answered 307 Elsewhere True", *[late] * len(drips)]


def test_a_name_that_is_looked_up_without_end_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = threading.Event()
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: answer.wait(60) and [])
    try:
        error = post("http://slow.example.com/", b"", timeout_s=TIMEOUT_S)
        assert error == "it did not answer within 0.5 s"
        assert not answer.is_set()
    finally:
        answer.set()


def test_a_name_that_is_looked_up_without_end_does_not_keep_the_process() -> None:
    program = (
        "import socket, threading\n"
        "socket.getaddrinfo = lambda *_, **__: threading.Event().wait()\n"
        "from ayb_jobs.runtime.chores.posting import post\n"
        "print(post('http://slow.example.com/', b'', timeout_s=0.2))\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout == "it did not answer within 0.2 s\n"


def test_a_body_without_end_is_not_read(peer_that: Callable[[Serve], Peer]) -> None:
    sent = 0

    def answer(client: socket.socket) -> None:
        nonlocal sent
        client.recv(65536)
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            sent += client.send(b"2000\r\n" + b"\x00" * 0x2000 + b"\r\n")

    peer = peer_that(answer)
    assert post(f"http://{peer.address}/", b"x", timeout_s=60) is None
    assert peer.ended.wait(30)
    assert sent < 32 * 1024 * 1024


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    receiver, proxy = Receiver(), Receiver()
    try:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        assert post(f"{receiver.url}/hook", b"x", timeout_s=10) is None
        assert receiver.paths() == ["/hook"]
        assert proxy.paths() == []
    finally:
        receiver.close()
        proxy.close()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://example.com/", "it is not an http:// or https:// address"),
        ("http://[", "it is not an http:// or https:// address"),
        ("http://", "it is not an http:// or https:// address"),
        ("http://127.0.0.1:99999/", "it is not an http:// or https:// address"),
        ("http://nobody.invalid/secret", "it cannot be reached"),
        ("http://a b.example.com/secret", "it is not an http:// or https:// address"),
    ],
)
def test_an_address_that_leads_nowhere_is_worded_without_it(url: str, words: str) -> None:
    error = post(url, b"", timeout_s=10)
    assert error is not None
    assert error.startswith(words)
    assert "secret" not in error


def test_a_daemon_without_the_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ayb_jobs.runtime.http_client", None)
    monkeypatch.delattr("ayb_jobs.runtime.http_client", raising=False)
    error = post("http://127.0.0.1:9/", b"", timeout_s=1)
    assert error == "the extra `http` is not installed; install it with: pip install 'ayb-jobs[http]'"


@pytest.mark.parametrize("key", ["WEBHOOKS", "PING_URL"])
def test_configured_alerts_without_the_extra_are_refused(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setattr("ayb_jobs.config.section.find_spec", lambda _name: None)
    with pytest.raises(ConfigError, match=r"alerts\.\w+ needs the extra `http`"):
        load_config(environ={f"AYB_JOBS_ALERTS_{key}": "https://ops.example.com/"})


def test_many_posts_leave_nothing_behind() -> None:
    receiver = Receiver()
    try:
        before = threading.active_count()
        began = time.monotonic()
        for _ in range(20):
            assert post(f"{receiver.url}/", b"", timeout_s=10) is None
        assert time.monotonic() - began < 60
        assert threading.active_count() <= before + 1
    finally:
        receiver.close()
