"""Handlers run as a worker runs them: on a job that was really leased."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import pytest
import structlog
from structlog.testing import LogCapture

from ayb_jobs.handlers.context import JobContext
from ayb_jobs.handlers.services import ContextServices
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue.lanes import Lane
from ayb_jobs.storage.queue.leasing import lease_jobs
from tests.factories import make_job

AYB_TABLES = """
    CREATE TABLE _ayb_sessions (
        id uuid DEFAULT gen_random_uuid(), user_id uuid, token_hash text, expires_at timestamptz, label text);
    CREATE TABLE _ayb_webhook_deliveries (id uuid DEFAULT gen_random_uuid(), delivered_at timestamptz, label text);
    CREATE TABLE _ayb_oauth_tokens (
        id uuid DEFAULT gen_random_uuid(), expires_at timestamptz, revoked_at timestamptz, label text);
    CREATE TABLE _ayb_oauth_authorization_codes (
        id uuid DEFAULT gen_random_uuid(), expires_at timestamptz, used_at timestamptz, label text);
    CREATE TABLE _ayb_magic_links (id uuid DEFAULT gen_random_uuid(), expires_at timestamptz, label text);
    CREATE TABLE _ayb_password_resets (id uuid DEFAULT gen_random_uuid(), expires_at timestamptz, label text);
"""

BARYCENTER_TABLES = """
    CREATE TABLE sessions (id text, expires_at bigint NOT NULL, label text);
    CREATE TABLE refresh_tokens (id text, expires_at bigint NOT NULL, label text);
    CREATE TABLE webauthn_challenges (id text, expires_at bigint NOT NULL, label text);
    CREATE TABLE device_codes (id text, expires_at bigint NOT NULL, label text);
"""


class Lease(Protocol):
    def __call__(
        self, job_type: str = "test", payload: Any = None, *, deadline: float | None = None, **columns: Any
    ) -> JobContext: ...


@pytest.fixture
def origin_tables(conn: Connection) -> None:
    conn.execute(AYB_TABLES)
    conn.execute(BARYCENTER_TABLES)


@pytest.fixture
def logs() -> LogCapture:
    return LogCapture()


@pytest.fixture
def lease(conn: Connection, db: Database, logs: LogCapture) -> Iterator[Lease]:
    """Returns a function that enqueues a job, leases it and returns its context."""
    logger = structlog.wrap_logger(
        None, processors=[logs], wrapper_class=structlog.make_filtering_bound_logger(0), cache_logger_on_first_use=False
    )
    services = ContextServices(database=db, lease_s=60, logger=logger)

    def lease_job(
        job_type: str = "test", payload: Any = None, *, deadline: float | None = None, **columns: Any
    ) -> JobContext:
        make_job(conn, type=job_type, payload={} if payload is None else payload, **columns)
        [job] = lease_jobs(
            conn, worker_id="test", lanes=[Lane("default", 2)], types=[job_type], limit=1, lease_s=services.lease_s
        )
        return JobContext(job, services, deadline)

    yield lease_job
    services.spawner.close()


@pytest.fixture
def labels(conn: Connection) -> Callable[[str], set[str]]:
    """Returns a function that tells which rows a table still has."""

    def labels_of(table: str) -> set[str]:
        return {label for (label,) in conn.execute(f"SELECT label FROM {table}").fetchall()}

    return labels_of


@pytest.fixture
def fill(conn: Connection) -> Callable[[str, Mapping[str, Mapping[str, str]]], None]:
    """Returns a function that inserts rows: a label, and SQL for each column."""

    def insert(table: str, rows: Mapping[str, Mapping[str, str]]) -> None:
        for label, columns in rows.items():
            names, values = ", ".join(["label", *columns]), ", ".join([f"'{label}'", *columns.values()])
            conn.execute(f"INSERT INTO {table} ({names}) VALUES ({values})")

    return insert
