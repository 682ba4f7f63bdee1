"""A daemon on a host whose clock is two days ahead: each door goes by the database's clock."""

import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from psycopg.sql import SQL

from ayb_jobs.storage.database import Connection
from tests.acceptance.processes import executed
from tests.eventually import eventually
from tests.factories import make_job, make_schedule
from tests.http.conftest import NO_AUTHORITIES
from tests.http.dashboard.visiting import Guest

FAKETIME = next(iter(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), None)
PLANNED = "* * * * * UTC once"

pytestmark = pytest.mark.skipif(FAKETIME is None, reason="libfaketime is not installed")


@pytest.fixture
def url(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where the API of such a daemon is; it fires no schedule, so that none is put right."""
    with monkeypatch.context() as environ:
        environ.setenv("LD_PRELOAD", str(FAKETIME))
        environ.setenv("FAKETIME", "+2d")
        environ.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        begun = executed(tmp_path, database_url, api_enabled="true", api_port="0", scheduler_enabled="false")
        process = begun.__enter__()
    try:
        process.await_event("daemon.started", within_s=60)
        yield process.await_event("api.started")["url"]
    finally:
        begun.__exit__(None, None, None)


@pytest.fixture
def guest(url: str) -> Iterator[Guest]:
    """Somebody who visits its dashboard."""
    visitor = Guest(cast(Any, SimpleNamespace(url=url)))
    with visitor.client:
        yield visitor


def test_typed_times_of_day_are_those_of_the_databases_today(guest: Guest, conn: Connection) -> None:
    made = guest.press(guest.get("/enqueue"), "Enqueue it", type="elsewhere", delay="00:00")
    assert "The job is enqueued." in made.text, made.text
    today = "SELECT date_trunc('day', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' = run_at FROM _ayb_jobs"
    assert conn.execute(today).fetchall() == [(True,)]
    guest.press(guest.get("/queues/pause?kind=queue&name=mail"), "Pause it", until="23:59:59")
    assert conn.execute("SELECT until - now() < '1 day' FROM _ayb_job_pauses").fetchall() == [(True,)]


def test_ages_and_next_runs_are_reckoned_by_the_database(guest: Guest, conn: Connection) -> None:
    job_id = make_job(conn, type="elsewhere")
    make_schedule(conn, name="soon", job_type="elsewhere", next_run_at=SQL("now() + interval '5 s'"))
    weekday, today = conn.execute("""
        SELECT to_char(now() AT TIME ZONE 'UTC', 'Dy'), to_char(now() AT TIME ZONE 'UTC', 'FMDD Mon')
    """).fetchall()[0]
    for path in ("/", "/jobs", f"/jobs/{job_id}", "/schedules", "/daemons", "/executions", "/queues", "/batches"):
        page = guest.get(path)
        assert page.status == 200
        in_full = page.text.replace(f"Created{weekday} {today}", "")  # a job's page has the day of its making anyway
        assert today not in in_full, f"{path} tells the day of what is of today: {page.text}"
        assert not re.search(r"\b(\d+ (d|days)|4[78] h) ago", page.text), page.text
    (worker,) = guest.client.get("/api/admin/workers").json()["items"]
    assert worker["silentSec"] < 60
    metrics = guest.client.get("/metrics").text
    (waits_s,) = re.findall(r"^ayb_jobs_oldest_ready_age_seconds (\S+)", metrics, re.MULTILINE)
    assert float(waits_s) < 3600


def test_a_next_run_that_is_too_late_is_overdue_to_probes_and_metrics(url: str, conn: Connection) -> None:
    with httpx.Client(base_url=url, timeout=20, verify=NO_AUTHORITIES) as client:
        assert ready(client)["overdueSchedules"] == 0
        make_schedule(
            conn,
            name="late",
            job_type="quick",
            planned=PLANNED,
            last_fire_at=SQL("now() + interval '2 hours 59 minutes'"),
            next_run_at=SQL("now() + interval '3 hours'"),
        )
        told, metrics = ready(client), client.get("/metrics").text
    assert told["overdueSchedules"] == 1
    (found,) = [each for each in told["findings"] if each["name"] == "schedules.overdue"]
    assert found["evidence"]["count"] == 1
    assert "ayb_jobs_schedules_overdue 1.0" in metrics


def ready(client: httpx.Client) -> dict[str, Any]:
    """Return what `/readyz` says once the database answers it in time."""

    def asked() -> dict[str, Any]:
        told: dict[str, Any] = client.get("/readyz").json()
        return told if "overdueSchedules" in told else {}

    return eventually(asked)
