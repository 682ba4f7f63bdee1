"""The server itself: where it listens, how it starts and stops, and what it documents."""

import asyncio
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import Any

import httpx
import pytest

from ayb_jobs.errors import ConfigError, PortInUse
from ayb_jobs.http import ApiServer
from ayb_jobs.http.edge import server as edge
from ayb_jobs.storage.connections import Database
from tests.eventually import eventually
from tests.http.conftest import NO_AUTHORITIES, Server, serving
from tests.http.operations import OPERATIONS, STREAM


def api_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "ayb-http"}


async def hello(scope: Any, _receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUse, match=rf"api\.port: {port} on 127\.0\.0\.1 is in use") as refused:
            ApiServer(lambda: hello, "127.0.0.1", port).start()
    for words in ("another ayb-jobs daemon", "api.port or AYB_JOBS_API_PORT"):
        assert words in str(refused.value)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "203.0.113.1", "not a host", "x" * 300])
def test_an_address_that_is_not_ours_is_named(host: str) -> None:
    with pytest.raises(ConfigError, match=r"api\.host: cannot listen on"):
        ApiServer(lambda: hello, host, 0).start()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_it_serves_at_the_address_that_it_tells(host: str) -> None:
    server = ApiServer(lambda: hello, host, 0)
    server.start()
    try:
        assert httpx.get(server.url, timeout=10, verify=NO_AUTHORITIES).text == "hello"
    finally:
        server.stop()
        server.stop()
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.url, verify=NO_AUTHORITIES)


def test_nothing_is_built_before_somebody_asks_and_meanwhile_it_is_healthy() -> None:
    built = threading.Event()

    def build() -> Any:
        built.set()
        return hello

    server = ApiServer(build, "127.0.0.1", 0)
    server.start()
    try:
        eventually(lambda: server._awaits_client)
        assert (built.is_set(), server.failing, server.overdue_s) == (False, False, 0.0)
        assert httpx.get(server.url, timeout=10, verify=NO_AUTHORITIES).text == "hello"
        assert built.is_set()
    finally:
        server.stop()


def test_a_server_that_nobody_has_asked_stops_at_once() -> None:
    before = api_threads()
    server = ApiServer(lambda: hello, "127.0.0.1", 0)
    server.start()
    eventually(lambda: server._awaits_client)
    server.stop()
    assert api_threads() == before


def test_requests_that_come_early_wait_for_the_application() -> None:
    may_build = threading.Event()

    def build() -> Any:
        may_build.wait(10)
        return hello

    server = ApiServer(build, "127.0.0.1", 0)
    server.start()
    try:
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as early:
            early.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            may_build.set()
            assert early.recv(100).startswith(b"HTTP/1.1 200 ")
    finally:
        server.stop()


def test_an_application_that_cannot_be_built_is_told_and_nobody_waits() -> None:
    failures: list[BaseException] = []

    def build() -> Any:
        raise RuntimeError("no")

    server = ApiServer(build, "127.0.0.1", 0, on_failure=failures.append)
    server.start()
    knock(server)
    eventually(lambda: failures)
    with pytest.raises((httpx.NetworkError, httpx.RemoteProtocolError)):  # at once, not by the client's patience
        httpx.get(server.url, timeout=60, verify=NO_AUTHORITIES)
    server.stop()


def test_a_server_that_something_ends_is_told_and_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "FIRST_RETRY_S", 0.01)
    failures: list[BaseException] = []
    ends: list[BaseException] = [SystemExit(1), asyncio.CancelledError(), MemoryError()]

    def build() -> Any:
        if ends:
            raise ends.pop()
        return hello

    server = ApiServer(build, "127.0.0.1", 0, on_failure=failures.append)
    server.start()
    knock(server)
    eventually(lambda: len(failures) == 3)
    assert eventually(lambda: answers(server.url))
    server.stop()


def test_a_server_outlives_even_what_fails_while_it_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "FIRST_RETRY_S", 0.01)
    ends: list[BaseException] = [SystemExit(1), asyncio.CancelledError(), MemoryError()]

    def build() -> Any:
        if ends:
            raise ValueError
        return hello

    def tell(_: BaseException) -> None:
        raise ends.pop()

    server = ApiServer(build, "127.0.0.1", 0, on_failure=tell)
    server.start()
    knock(server)
    assert eventually(lambda: answers(server.url))
    assert not server.failing
    server.stop()


def knock(server: ApiServer) -> None:
    """Connect, and ask for nothing. A server that fails at once closes its socket before that is done."""
    with suppress(ConnectionError), socket.create_connection(("127.0.0.1", server.port), timeout=10):
        pass


def answers(url: str) -> bool:
    try:
        return httpx.get(url, verify=NO_AUTHORITIES).status_code == 200
    except httpx.TransportError:
        return False


def test_stopping_before_the_application_is_built_ends_the_thread() -> None:
    may_build = threading.Event()
    before = api_threads()

    def build() -> Any:
        may_build.wait(10)
        return hello

    server = ApiServer(build, "127.0.0.1", 0)
    server.start()
    knock(server)
    assert api_threads() != before
    threading.Timer(0.2, may_build.set).start()
    server.stop()
    assert api_threads() == before


def test_a_stop_leaves_no_thread_behind_although_clients_stay_connected(db: Database) -> None:
    before = api_threads()
    with serving(db) as server, server.client() as client:
        client.get("/livez")
        idle = socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])))
    with idle:
        assert api_threads() == before


@pytest.mark.outer
def test_importing_the_service_imports_no_web_framework() -> None:
    heavy = "{'fastapi', 'uvicorn', 'starlette', 'strawberry', 'graphql', 'prometheus_client'}"
    code = f"import sys, ayb_jobs.process.service; print({heavy} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert shown.stdout == "set()\n"


def test_the_documentation_page_loads_nothing_from_elsewhere(shared_client: httpx.Client) -> None:
    page = shared_client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "//" not in page.text.replace("<!doctype", "")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assets = [part.split('"')[0] for part in page.text.replace('href="', 'src="').split('src="')[1:]]
    assert len(assets) == 4
    for path in assets:
        asset = shared_client.get(path)
        assert (asset.status_code, len(asset.content) > 50) == (200, True)
    assert shared_client.get("/docs/nothing.js").status_code == 404
    assert shared_client.get("/docs/..%2f..%2fconfig.py").status_code == 404


def test_the_document_names_every_route_and_no_answer_that_is_never_given(shared_server: Server) -> None:
    with shared_server.client(None) as client:
        document = client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    paths = {(method.upper(), path) for path, operations in document["paths"].items() for method in operations}
    assert paths == {STREAM, *OPERATIONS}
    assert "422" not in str(document)
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"


def test_an_answer_does_not_wait_for_the_acknowledgement_of_its_header(shared_client: httpx.Client) -> None:
    def seconds() -> float:
        begun = time.perf_counter()
        shared_client.get("/livez")
        return time.perf_counter() - begun

    # The delay would be 40 ms at the very least, each time; the quickest of many shows whether there is one.
    assert min(seconds() for _ in range(50)) < 0.04
