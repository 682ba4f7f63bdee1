"""A real server on a real database, for every test of the API."""

import ssl
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import httpx
import pytest

from ayb_jobs.config import Api, ApiToken, Config, Jobs
from ayb_jobs.events import Events
from ayb_jobs.handlers.job_type import JobType
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.http import ApiServer, Services, app_factory
from ayb_jobs.metrics import Metrics
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.throwaway import Databases

ADMIN = "admin-token-0123456789-abcdefghijkl"
READ = "read-token-0123456789-abcdefghijklm"
OPERATE = "operate-token-0123456789-abcdefghi"
# A client without one loads those of all authorities, which takes as long as ten requests. No server here speaks TLS.
NO_AUTHORITIES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class Server:
    """A running API: its address, what it stands on, and the events it told."""

    def __init__(self, api: ApiServer, services: Services, told: list[object]) -> None:
        self.api = api
        self.url = api.url
        self.services = services
        self.told = told

    def connections(self) -> int:
        """Return how many connections are open."""
        server = self.api._server
        return len(server.server_state.connections) if server else 0

    def client(self, token: str | None = ADMIN) -> httpx.Client:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30, verify=NO_AUTHORITIES)


MakeServer = Callable[..., Any]


def registry() -> Registry:
    known = Registry()
    known.add(JobType(name="stale_session_cleanup", run=lambda _ctx: None, description="Delete expired sessions"))
    known.add(JobType(name="send_mail", run=lambda _ctx: None, max_attempts=5, payload={"to": "nobody"}))
    return known


@contextmanager
def serving(db: Database, *, api: Api | None = None, enabled: bool = True, **services: Any) -> Iterator[Server]:
    events, metrics = Events(), Metrics()
    told: list[object] = []
    events.subscribe(metrics)
    events.subscribe(told.append)
    tokens = {
        "watcher": ApiToken(token=READ, scope="read"),
        "ops": ApiToken(token=OPERATE, scope="operate"),
    }
    settings = api or Api(port=0, admin_token=ADMIN, tokens=tokens)
    config = Config(jobs=Jobs(enabled=enabled), api=settings)
    stands_on = Services(database=db, config=config, registry=registry(), events=events, metrics=metrics, **services)
    failures: list[BaseException] = []
    server = ApiServer(
        app_factory(stands_on), settings.host, 0, stopping=stands_on.stopping, on_failure=failures.append
    )
    server.start()
    try:
        yield Server(server, stands_on, told)
    finally:
        server.stop()
        assert failures == []


@pytest.fixture
def server(db: Database) -> Iterator[Server]:
    with serving(db) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as admin:
        yield admin


@pytest.fixture(scope="session")
def shared_server(databases: Databases) -> Iterator[Server]:
    """A server for tests that change nothing."""
    with databases.migrated() as url, closing(Database(url)) as db, serving(db) as running:
        yield running


@pytest.fixture
def shared_client(shared_server: Server) -> Iterator[httpx.Client]:
    """A client for tests that change nothing, on tables without rows: other tests share the server's database."""
    with shared_server.services.database.connection() as conn:
        conn.execute("DELETE FROM _ayb_jobs")
        conn.execute("DELETE FROM _ayb_job_schedules")
    with shared_server.client() as admin:
        yield admin


@pytest.fixture(scope="session")
def fuzzed_server(databases: Databases) -> Iterator[Server]:
    """A server for generated requests, with a database of its own."""
    with databases.migrated() as url, closing(Database(url)) as db, serving(db) as running:
        yield running
