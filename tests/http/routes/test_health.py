"""Probes: alive, ready, and who is."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any, NoReturn

import httpx
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from ayb_jobs.checks import verdict
from ayb_jobs.checks.finding import facts
from ayb_jobs.checks.loops import LoopAge, stuck_loops
from ayb_jobs.config import Api
from ayb_jobs.errors import InvalidInput
from ayb_jobs.events import RequestFailed
from ayb_jobs.handlers.packs import prune_webhook_deliveries
from ayb_jobs.http.routes import health
from ayb_jobs.http.routes import metrics as exposition
from ayb_jobs.model.daemons import DaemonRecord
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.daemons import beat, find_silent, forget_daemons
from ayb_jobs.storage.own import OwnCursor
from ayb_jobs.storage.rights import grant
from tests.factories import make_job
from tests.http.conftest import serving

WELL = LoopAge("producer", 0.5, 10)
STUCK = LoopAge("producer", 11.25, 10)


def test_a_daemon_whose_loops_turn_is_alive_and_ready(db: Database) -> None:
    with serving(db, loops=lambda: [WELL]) as server, server.client(None) as client:
        for path in ("/livez", "/readyz"):
            answer = client.get(path)
            assert answer.status_code == 200
            told = answer.json()
            assert (told["status"], told["reasons"]) == ("ok", [])
            assert told["loops"] == {"producer": {"ageSec": 0.5, "limitSec": 10}}
            assert (client.head(path).status_code, client.head(path).content) == (200, b"")


def test_a_stuck_loop_is_neither_alive_nor_ready_and_is_named(db: Database) -> None:
    loops: Sequence[LoopAge] = [STUCK]
    with serving(db, loops=lambda: loops) as server, server.client(None) as client:
        for path in ("/livez", "/readyz"):
            answer = client.get(path)
            assert answer.status_code == 503
            assert answer.json()["status"] == "failing"
            assert "producer" in answer.json()["reasons"][0]
        loops = [WELL]
        assert client.get("/livez").status_code == 200


def test_a_loop_that_fails_in_every_turn_is_neither_alive_nor_ready(db: Database) -> None:
    failing = LoopAge("recoverer", 61.5, 60, failing=True)
    with serving(db, loops=lambda: [failing]) as server, server.client(None) as client:
        for path in ("/livez", "/readyz"):
            answer = client.get(path)
            assert answer.status_code == 503
            assert answer.json()["reasons"] == ["loop recoverer has failed for 61.5 s; the log has the details"]


def test_a_loop_that_has_failed_for_some_seconds_is_told_and_leaves_the_daemon_ready(
    db: Database, conn: Connection
) -> None:
    beat(conn, DaemonRecord(id="a", host="h", pid=1, version="1", concurrency=1, queues=["default"], types=[]))
    loops = [LoopAge("scheduler", 6.0, 60.0, failing=True), LoopAge("pruner", 4.0, 60.0, failing=True)]
    with serving(db, loops=lambda: loops) as server, server.client() as client:
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["reasons"]) == (200, [])
        assert ready.json()["sentence"] == "Loop scheduler has failed for 6.0 s; the log has the details."
        assert client.get("/livez").json()["findings"] == []


def test_a_loop_that_fails_is_told_with_the_databases_words_to_those_who_may_read_names(
    db: Database, conn: Connection
) -> None:
    beat(conn, DaemonRecord(id="a", host="h", pid=1, version="1", concurrency=1, queues=["default"], types=[]))
    loops = [LoopAge("scheduler", 6.0, 60.0, failing=True, error=ValueError("no `secret_project`\nat line 1"))]
    with serving(db, loops=lambda: loops) as server, server.client() as client, server.client(None) as stranger:
        assert client.get("/readyz").json()["sentence"] == "Loop scheduler has failed for 6.0 s: no `secret_project`."
        assert "secret_project" not in stranger.get("/readyz").text


def test_a_probe_tells_what_is_wrong_what_it_means_and_what_to_do(db: Database) -> None:
    with serving(db, loops=lambda: [STUCK]) as server, server.client(None) as client:
        for path in ("/livez", "/readyz"):
            told = client.get(path).json()
            (finding,) = told["findings"]
            assert [finding["fact"]] == told["reasons"]
            assert finding["evidence"]["loop"] == "producer"
            assert finding["meaning"]
            assert finding["remedy"] == "Restart the daemon; its jobs run again."


def test_a_probe_counts_what_waits_and_names_no_job_type(db: Database, conn: Connection) -> None:
    make_job(conn, type="secret_project")
    with serving(db) as server, server.client(None) as client:
        answer = client.get("/readyz")
    (finding,) = answer.json()["findings"]
    assert (answer.status_code, answer.json()["unclaimableJobs"]) == (200, 1)
    assert (finding["name"], finding["severity"], finding["evidence"]) == (
        "jobs.unclaimable",
        "warning",
        {"count": 1, "atLeast": False},
    )
    assert "secret_project" not in answer.text


def test_a_loop_that_waits_for_the_database_is_alive_and_not_ready(db: Database) -> None:
    waiting = LoopAge("recoverer", 61.5, 60, failing=True, waits_for_database=True)
    with serving(db, loops=lambda: [waiting]) as server, server.client(None) as client:
        assert client.get("/livez").status_code == 200
        assert client.get("/readyz").status_code == 503


def test_what_retention_will_remove_from_an_adopted_database_is_told(db: Database, conn: Connection) -> None:
    make_job(conn, "completed", created_at="2020-01-01", completed_at="2020-01-01")
    with serving(db) as server, server.client(None) as client:
        (notice,) = client.get("/readyz").json()["notices"]
    # The day began when the tests' template was migrated.
    assert re.match(r"completed jobs that ended more than 720 h ago will be removed in 2[34]\.\d h", notice)


def test_a_stopping_daemon_is_alive_but_not_ready(db: Database) -> None:
    with serving(db, draining=lambda: True) as server, server.client(None) as client:
        assert client.get("/livez").status_code == 200
        assert client.get("/readyz").json()["reasons"] == ["the daemon is stopping"]


def test_a_read_only_database_is_not_ready(db: Database, conn: Connection) -> None:
    (name,) = conn.execute("SELECT current_database()").fetchone() or ("",)
    conn.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on".encode())
    with serving(db) as server, server.client(None) as client:
        answer = client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["reasons"] == ["the database takes no writes: it is a standby, or read-only"]
        assert client.get("/livez").status_code == 200


def test_another_schema_is_not_ready(db: Database, conn: Connection) -> None:
    conn.execute("DELETE FROM _ayb_jobs_migrations WHERE version = 1")
    with serving(db) as server, server.client(None) as client:
        assert "migrate" in client.get("/readyz").json()["reasons"][0]
        conn.execute("INSERT INTO _ayb_jobs_migrations (version, name, checksum) VALUES (1, '', ''), (9999, '', '')")
        assert "9999" in client.get("/readyz").json()["reasons"][0]


def test_a_disabled_daemon_is_ready_without_any_table_of_ours(empty_database_url: str) -> None:
    with closing(Database(empty_database_url, name="test")) as db:
        with serving(db, enabled=False) as server, server.client(None) as client:
            ready, metrics = client.get("/readyz"), client.get("/metrics")
        assert prune_webhook_deliveries(db) == 0
    assert (ready.status_code, ready.json()["reasons"], ready.json()["findings"]) == (200, [], [])
    assert ready.json()["sentence"] == "Jobs are disabled: this daemon runs no job and fires no schedule."
    assert metrics.status_code == 200
    assert [each for each in server.told if isinstance(each, RequestFailed)] == []


def test_a_database_that_was_never_migrated_is_said_so_and_is_no_error_of_ours(empty_database_url: str) -> None:
    with (
        closing(Database(empty_database_url, name="test")) as db,
        serving(db, api=Api(port=0)) as server,
        server.client() as client,
    ):
        answers = {path: client.get(path) for path in ("/api/admin/jobs", "/api/admin/schedules", "/", "/jobs")}
        metrics = client.get("/metrics")
    assert {path: answer.status_code for path, answer in answers.items()} == dict.fromkeys(answers, 503)
    for answer in answers.values():
        assert "the database is not set up for this version of ayb-jobs" in answer.text.replace("The data", "the data")
        assert "ayb-jobs migrate" in answer.text
    assert (metrics.status_code, "ayb_jobs_database_up 0.0" in metrics.text) == (200, True)
    assert [each for each in server.told if isinstance(each, RequestFailed)] == []


def test_a_disabled_daemon_that_cannot_write_or_stops_or_hangs_is_not_ready(db: Database, conn: Connection) -> None:
    spoiled = "ALTER DATABASE {} SET default_transaction_read_only = on"
    conn.execute(sql.SQL(spoiled).format(sql.Identifier(conn.info.dbname)))
    with (
        serving(db, enabled=False, loops=lambda: [STUCK], draining=lambda: True) as server,
        server.client(None) as client,
    ):
        answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["reasons"] == [
        *facts(stuck_loops([STUCK])),
        "the database takes no writes: it is a standby, or read-only",
        "the daemon is stopping",
    ]


def test_a_crowd_of_probes_takes_one_connection_and_each_is_told_what_is_so(db: Database, conn: Connection) -> None:
    with serving(db) as server, server.client(None) as client:
        with conn.transaction():
            conn.execute("LOCK TABLE _ayb_job_schedules IN ACCESS EXCLUSIVE MODE")
            with ThreadPoolExecutor(20) as crowd:
                statuses = list(crowd.map(lambda _: client.get("/readyz", timeout=60).status_code, range(20)))
        assert set(statuses) == {200}
        names = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'test' AND datname = current_database()"
        assert conn.execute(names).fetchone() == (2,)  # the server's, and this test's own


def test_a_figure_that_the_database_cannot_compute_is_left_out(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def computed(*_: object, **__: object) -> NoReturn:
        raise InvalidInput("the database refuses a value: interval out of range")

    monkeypatch.setattr(verdict, "overdue", computed)
    monkeypatch.setattr(health, "COUNTED", {**health.COUNTED, "overdueSchedules": computed})
    monkeypatch.setattr(exposition, "gauges_of_state", computed)
    with serving(db) as server, server.client(None) as client:
        answer = client.get("/readyz")
        assert answer.status_code == 200
        assert "overdueSchedules" not in answer.json()
        assert answer.json()["unclaimableJobs"] == 0
        assert "ayb_jobs_database_up 0.0" in client.get("/metrics").text
        (told,) = [each for each in server.told if isinstance(each, RequestFailed)]
    assert "interval out of range" in str(told.error)


@pytest.mark.parametrize("table", ["_ayb_jobs", "_ayb_job_pauses"])
def test_a_daemon_whose_table_is_gone_is_not_ready(db: Database, conn: Connection, table: str) -> None:
    conn.execute(sql.SQL("DROP TABLE {} CASCADE").format(sql.Identifier(table)))
    fact, remedy = why_not_ready(db)
    assert f'is not set up for this version of ayb-jobs (relation "public.{table}" does not exist)' in fact
    assert remedy == "ayb-jobs migrate"


@pytest.fixture
def role(conn: Connection) -> Iterator[str]:
    """Return a role with a daemon's rights."""
    name = f"daemon_{conn.info.dbname}"
    conn.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(name)))
    try:
        grant(conn, "public", name, ["daemon"])
        yield name
    finally:
        conn.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(name)))
        conn.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


@contextmanager
def as_role(database_url: str, role: str) -> Iterator[Database]:
    with closing(Database(make_conninfo(database_url, options=f"-c role={role}"), name="test")) as database:
        yield database


def test_a_daemon_that_lost_a_right_is_not_ready(conn: Connection, database_url: str, role: str) -> None:
    conn.execute(sql.SQL("REVOKE ALL ON _ayb_jobs FROM {}").format(sql.Identifier(role)))
    with as_role(database_url, role) as database:
        fact, remedy = why_not_ready(database)
    assert fact.endswith("lacks a right: permission denied for table _ayb_jobs")
    assert remedy == "ayb-jobs grant ROLE --daemon"


LOST = {
    "_ayb_job_executions": "REVOKE INSERT ON _ayb_job_executions FROM {}",
    "_ayb_jobs": "REVOKE UPDATE ON _ayb_jobs FROM {}",
    "_ayb_job_execution_ids": "REVOKE USAGE ON SEQUENCE _ayb_job_execution_ids FROM {}",
    "_ayb_job_id()": "REVOKE EXECUTE ON FUNCTION _ayb_job_id FROM {}",
}


@pytest.mark.parametrize("lost", LOST)
def test_a_daemon_that_lost_one_right_of_several_is_not_ready(
    conn: Connection, database_url: str, role: str, lost: str
) -> None:
    with as_role(database_url, role) as database:
        conn.execute("CREATE TABLE _ayb_jobs_kept AS SELECT FROM _ayb_jobs")  # an operator's own
        with serving(database) as server, server.client(None) as client:
            assert "rights.missing" not in client.get("/readyz").text
        conn.execute(sql.SQL(LOST[lost]).format(sql.Identifier(role)))
        with serving(database) as server, server.client(None) as client:
            answer = client.get("/readyz")
    assert answer.status_code == 503
    (found,) = [each for each in answer.json()["findings"] if each["name"] == "rights.missing"]
    assert (found["fact"], found["severity"]) == (f"this role lacks rights on {lost}", "failing")


def why_not_ready(db: Database) -> tuple[str, str]:
    with serving(db) as server, server.client(None) as client:
        answer = client.get("/readyz")
    assert answer.status_code == 503
    (finding,) = answer.json()["findings"]
    return finding["fact"], finding["remedy"]


def test_minutes_that_add_up_beyond_all_bounds_hide_nothing(db: Database, conn: Connection) -> None:
    make_job(conn, "failed", type="a", last_error="no", updated_at=sql.SQL("now()"))
    for figure in ("-9223372036854775808", "9223372036854775807"):
        conn.execute("DELETE FROM _ayb_job_minutes")
        conn.execute(
            f"""INSERT INTO _ayb_job_minutes (at, job_type, completed, failed, retried, records)
                SELECT now() - n * interval '1 minute', 'a', {figure}, {figure}, {figure}, {figure}
                FROM generate_series(0, 9) AS n"""
        )
        with serving(db) as server, server.client() as client:
            assert "gave no usable answer" not in client.get("/readyz").json()["sentence"]
            sums = client.get("/api/admin/stats/minutes").json()["items"]
            assert {each["completed"] for each in sums} <= {0, 10**15}
            assert sums
            assert [each for each in server.told if isinstance(each, RequestFailed)] == []


def test_a_probe_puts_each_question_to_the_database_once(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    execute = OwnCursor.execute

    def noted(cursor: OwnCursor, query: Any, *arguments: Any, **options: Any) -> Any:
        asked.append(" ".join(str(query).split()) + f" {arguments}")
        return execute(cursor, query, *arguments, **options)

    with serving(db) as server, server.client(None) as client:
        client.get("/readyz")
        monkeypatch.setattr(OwnCursor, "execute", noted)
        assert client.get("/readyz").json()["findings"] == []
    assert [each for each, times in Counter(asked).items() if times > 1] == []
    assert len([each for each in asked if "is_lifeless" in each]) == 1
    assert len(asked) <= 24


def worker(name: str) -> DaemonRecord:
    return DaemonRecord(id=name, host="h", pid=7, version="1", concurrency=4, queues=["default"], types=["send_mail"])


def test_daemons_are_listed_while_they_are_heard_of_with_what_each_runs(client: httpx.Client, conn: Connection) -> None:
    for name in ("one", "two", "silent", "stopped"):
        beat(conn, worker(name))
    conn.execute("UPDATE _ayb_job_workers SET heartbeat_at = now() - interval '2 minutes' WHERE id = 'silent'")
    forget_daemons(conn, ["stopped"])
    job_id = make_job(conn, "running", worker_id="two")
    page = client.get("/api/admin/workers").json()
    assert [(one["id"], one["running"]) for one in page["items"]] == [("one", []), ("two", [job_id])]
    assert page["count"] == 2
    assert page["items"][0].keys() == {
        "id", "host", "pid", "version", "concurrency", "queues", "types", "startedAt", "heartbeatAt", "silentSec",
        "running", "atLeast",
    }  # fmt: skip


def test_a_beat_keeps_the_start_and_the_long_gone_are_found(conn: Connection) -> None:
    beat(conn, worker("one"))
    beat(conn, worker("old"))
    conn.execute("UPDATE _ayb_job_workers SET started_at = now() - interval '1 hour' WHERE id = 'one'")
    conn.execute("UPDATE _ayb_job_workers SET heartbeat_at = now() - interval '2 days' WHERE id = 'old'")
    beat(conn, worker("one"))
    rows = conn.execute("SELECT now() - started_at > '59 minutes' FROM _ayb_job_workers WHERE id = 'one'").fetchall()
    assert rows == [(True,)]
    assert find_silent(conn) == ["old"]
