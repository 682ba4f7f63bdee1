"""The API is served if all that it needs is installed; an application's own FastAPI is not all."""

import ctypes
import re
import socket
import threading
from asyncio import CancelledError
from contextlib import suppress
from importlib.util import find_spec
from typing import Any, cast

import httpx
import pytest
import tomli

from ayb_jobs.config import Api, Config, Jobs
from ayb_jobs.daemon.disabled import DisabledDaemon
from ayb_jobs.events import ApiFailed, ApiStarted, ApiUnavailable, Event, Events
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.http import ApiServer
from ayb_jobs.http.edge import server as edge
from ayb_jobs.metrics import Metrics
from ayb_jobs.process.progress import FAILING_S, loop_ages
from ayb_jobs.process.serving import API_LIBRARIES, has_api, served
from ayb_jobs.storage.connections import Database
from tests.docs.reading import ROOT
from tests.eventually import eventually
from tests.http.conftest import NO_AUTHORITIES
from tests.running import Recorder

# Packages whose module has another name.
MODULES = {"graphql_core": "graphql"}


def test_the_api_needs_all_libraries_of_its_extra() -> None:
    extras = tomli.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    names = [re.split(r"[<>=\[; ]", wanted)[0].replace("-", "_") for wanted in extras["api"]]
    assert sorted(MODULES.get(name, name) for name in names) == sorted(API_LIBRARIES)
    assert has_api()


@pytest.mark.parametrize("missing", API_LIBRARIES)
def test_without_one_of_them_the_daemon_says_what_to_install_and_serves_nothing(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ayb_jobs.process.serving.find_spec", lambda name: None if name == missing else find_spec(name))
    told: list[Event] = []
    events = Events()
    events.subscribe(told.append)
    with served(
        cast(Any, None),  # nothing asks the daemon
        config=Config(jobs=Jobs(enabled=True)),
        registry=Registry(),
        events=events,
        metrics=Metrics(),
        started=threading.Event(),
    ) as serving:
        assert serving.dashboard is None
    assert told == [ApiUnavailable()]


def raise_in(thread: threading.Thread, error: type[BaseException]) -> None:
    """Have an exception raised in a thread, as a library does that patches what runs there."""
    assert thread.ident is not None
    assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(error)) == 1


def http_thread() -> threading.Thread:
    (thread,) = (thread for thread in threading.enumerate() if thread.name == "ayb-http")
    return thread


@pytest.mark.parametrize("error", [CancelledError, SystemExit, KeyboardInterrupt])
def test_a_server_that_is_killed_is_told_counted_unhealthy_and_served_again(
    db: Database, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge, "FIRST_RETRY_S", 2.0)
    started, events, metrics, recorder = threading.Event(), Events(), Metrics(), Recorder()
    started.set()
    events.subscribe(metrics)
    events.subscribe(recorder)
    config = Config(api=Api(enabled=True, port=0))
    disabled = DisabledDaemon(config=config, url=db.url, events=events)
    with (
        served(
            disabled, config=config, registry=Registry(), events=events, metrics=metrics, started=started
        ) as serving,
        httpx.Client(base_url=recorder.of(ApiStarted)[0].url, verify=NO_AUTHORITIES) as client,
    ):
        assert client.get("/livez").status_code == 200
        assert not any(age.failing for age in serving.loops())
        while not recorder.of(ApiFailed):  # one that comes while a request ends is taken for an error of that request
            raise_in(http_thread(), error)
            with suppress(AssertionError):
                eventually(lambda: recorder.of(ApiFailed), within_s=3)
        failing = eventually(lambda: [age for age in serving.loops() if age.failing])
        assert [(age.name, age.limit_s) for age in failing] == [("http", FAILING_S)]
        assert [type(failed.error) for failed in recorder.of(ApiFailed)] == [error]
        eventually(lambda: answers(client, "/livez"))
        assert "ayb_jobs_api_failures_total 1.0" in client.get("/metrics").text
        assert not any(age.failing or age.is_stuck for age in serving.loops())
    disabled.stop()


def test_a_server_that_cannot_serve_again_needs_a_restart_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ayb_jobs.process.progress.FAILING_S", 0.2)

    def build() -> Any:
        raise RuntimeError("no")

    server = ApiServer(build, "127.0.0.1", 0)
    server.start()
    with suppress(ConnectionError), socket.create_connection(("127.0.0.1", server.port), timeout=10):
        pass
    (age,) = eventually(lambda: [age for age in loop_ages([server]) if age.needs_restart])
    assert (age.name, age.failing) == ("http", True)
    server.stop()
    assert not any(age.failing or age.is_stuck for age in loop_ages([server]))


def answers(client: httpx.Client, path: str) -> bool:
    try:
        return client.get(path).status_code == 200
    except httpx.TransportError:
        return False
