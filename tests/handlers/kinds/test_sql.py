"""Jobs written as SQL: what they bind, count, and leave behind when they fail or are stopped."""

from typing import Any

import psycopg
import pytest
from structlog.testing import LogCapture

from ayb_jobs.config import JobTypeSettings
from ayb_jobs.config.kinds import settings_of
from ayb_jobs.errors import Discard, LeaseLost, Stopped
from ayb_jobs.events import JobsSettled
from ayb_jobs.handlers.job_type import JobType
from ayb_jobs.handlers.kinds import cleanup
from ayb_jobs.handlers.kinds.table import KINDS, kind_of
from ayb_jobs.handlers.packs import new_type
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.storage.database import Connection
from tests.eventually import eventually
from tests.factories import make_job
from tests.handlers.conftest import Lease
from tests.running import running


def read(settings: dict[str, Any]) -> JobTypeSettings:
    return settings_of(settings, KINDS)(**settings)


def job_type(**settings: Any) -> JobType:
    made = read(settings)
    assert not list(made.contradictions())
    handler = kind_of(made).handler
    assert handler is not None
    return new_type("test", made, handler(made), "a test")


def faults(**settings: Any) -> list[str]:
    return [f"{'.'.join(path)} {about}" for path, about in read(settings).contradictions()]


@pytest.fixture(autouse=True)
def things(conn: Connection) -> None:
    conn.execute("CREATE TABLE things AS SELECT i AS id, 'x' AS kind FROM generate_series(1, 5000) i")


def left(conn: Connection) -> int:
    row = conn.execute("SELECT count(*) FROM things").fetchone()
    assert row is not None
    return int(row[0])


TABLE_NAME_WANTED = "a table's name as it is stored is needed, without quotes, such as sessions or auth.sessions"
ALL = {"delete_from": "things", "where": "true", "batch_size": 400}


def test_a_delete_counts_the_rows_of_all_batches(conn: Connection, lease: Lease) -> None:
    assert job_type(**ALL).run(lease()) == 5000
    assert left(conn) == 0


def test_the_payload_goes_over_its_defaults(conn: Connection, lease: Lease) -> None:
    made = job_type(delete_from="things", where="id <= %(most)s AND kind = %(kind)s", payload={"most": 10, "kind": "x"})
    assert made.run(lease(payload={"most": 3, "unknown": "ignored"})) == 3
    assert made.run(lease(payload=None)) == 7
    assert made.run(lease(payload={"kind": "y"})) == 0


def test_a_null_in_the_payload_is_an_sql_null(conn: Connection, lease: Lease) -> None:
    made = job_type(delete_from="things", where="id <= 5 AND %(kind)s::text IS NULL", payload={"kind": "x"})
    assert made.run(lease()) == 0
    assert made.run(lease(payload={"kind": None})) == 5


def test_lists_and_objects_are_bound_as_jsonb(lease: Lease) -> None:
    made = job_type(delete_from="things", where="to_jsonb(id) <@ %(ids)s", payload={"ids": []})
    assert made.run(lease(payload={"ids": [1, 2, 9999]})) == 2


def test_a_payload_value_is_never_sql(conn: Connection, lease: Lease) -> None:
    made = job_type(delete_from="things", where="kind = %(kind)s", payload={"kind": "none"})
    assert made.run(lease(payload={"kind": "' OR true --"})) == 0
    assert left(conn) == 5000


def test_a_payload_that_is_no_object_discards_the_job(lease: Lease) -> None:
    with pytest.raises(Discard, match="takes an object"):
        job_type(**ALL).run(lease(payload=[1]))


def test_what_earlier_batches_deleted_is_counted_where_a_later_one_fails(conn: Connection, lease: Lease) -> None:
    context = lease()
    with pytest.raises(psycopg.errors.DivisionByZero):
        job_type(delete_from="things", where="1 / (id - 3000) IS NOT NULL", batch_size=400).run(context)
    assert context.records_processed
    assert context.records_processed == 5000 - left(conn) >= 2000


def test_progress_and_a_longer_lease_between_batches(
    conn: Connection, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleanup, "PROGRESS_EVERY_S", 0.0)
    context = lease()
    conn.execute("UPDATE _ayb_jobs SET lease_until = now() + interval '1 second'")
    job_type(**ALL).run(context)
    assert conn.execute("SELECT progress, lease_until > now() + interval '50 seconds' FROM _ayb_jobs").fetchall() == [
        ({"records_processed": 5000}, True)
    ]


def test_a_lost_lease_stops_the_deleting(conn: Connection, lease: Lease, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleanup, "PROGRESS_EVERY_S", 0.0)
    context = lease()
    conn.execute("UPDATE _ayb_jobs SET lease_id = gen_random_uuid()")
    with pytest.raises(LeaseLost):
        job_type(**ALL).run(context)
    assert left(conn) == 5000 - (context.records_processed or 0) > 0


@pytest.mark.parametrize("reason", ["shutdown", "timeout"])
def test_a_cleanup_stops_between_batches_and_keeps_its_count(
    reason: Any, conn: Connection, lease: Lease, logs: LogCapture
) -> None:
    context = lease()
    context.stop(reason)
    with pytest.raises(Stopped) as stopped:
        job_type(**ALL).run(context)
    assert stopped.value.reason == reason
    assert left(conn) == 5000 - (context.records_processed or 0) > 0
    assert [(line["event"], line["records_processed"]) for line in logs.entries] == [
        ("cleanup.interrupted", context.records_processed)
    ]


def test_statements_run_in_order_and_count_what_they_change(conn: Connection, lease: Lease) -> None:
    made = job_type(
        statements=[
            "CREATE TABLE archive (id int)",
            "INSERT INTO archive SELECT id FROM things WHERE id <= %(most)s",
            "SELECT * FROM archive",
            "DELETE FROM things USING archive WHERE things.id = archive.id",
        ],
        payload={"most": 10},
    )
    assert made.run(lease()) == 20
    assert left(conn) == 4990


def test_statements_do_all_or_nothing(conn: Connection, lease: Lease) -> None:
    with pytest.raises(psycopg.errors.UndefinedTable):
        job_type(statements=["DELETE FROM things", "DELETE FROM nothing_here"]).run(lease())
    assert left(conn) == 5000


def test_a_statement_ends_at_the_timeout(lease: Lease) -> None:
    with pytest.raises(psycopg.errors.QueryCanceled):
        job_type(statements=["SELECT pg_sleep(60)"]).run(lease(deadline=0.0))


def test_settings_become_the_type_s() -> None:
    made = job_type(**ALL, description="Delete all", timeout_s=3.5, max_attempts=7, payload={"a": 1})
    assert (made.description, made.timeout_s, made.max_attempts, made.payload, made.source) == (
        "Delete all",
        3.5,
        7,
        {"a": 1},
        "a test",
    )


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        (
            {"delete_from": "things", "where": "a < %(hours)s"},
            "where uses %(hours)s, for which payload has no default; add payload = { hours = … }",
        ),
        (
            {"delete_from": "things", "where": "a < %(hour)s", "payload": {"hours": 1}},
            "where uses %(hour)s, for which payload has no default; did you mean hours?",
        ),
        (
            {"delete_from": "things", "where": "a LIKE 'x%'"},
            'where has a lone % before "\'"; write %% for a percent sign',
        ),
        ({"delete_from": "things", "where": "a = %s"}, "where has a lone % before 's'; write %% for a percent sign"),
        (
            {"delete_from": '"things"', "where": "true"},
            "delete_from is '\"things\"'; " + TABLE_NAME_WANTED,
        ),
        (
            {"deletes": [{"delete_from": "a", "where": "true"}, {"delete_from": "b.c.d", "where": "true"}]},
            "deletes.1.delete_from is 'b.c.d'; " + TABLE_NAME_WANTED,
        ),
        ({"deletes": [{"delete_from": "a", "where": "  "}]}, "deletes.0.where is empty; SQL is needed"),
        (
            {"statements": ["SELECT 1", "SELECT %(x)s"]},
            "statements number 2 uses %(x)s, for which payload has no default; add payload = { x = … }",
        ),
    ],
)
def test_faults_are_found_before_anything_runs(settings: dict[str, Any], fault: str) -> None:
    assert faults(**settings) == [fault]


def test_what_earlier_batches_deleted_is_on_record_if_a_later_one_fails(database_url: str, conn: Connection) -> None:
    registry = Registry()
    registry.add(job_type(delete_from="things", where="1 / (id - 3000) IS NOT NULL", batch_size=400))
    with running(database_url, registry, poll_interval_ms=50) as daemon:
        make_job(conn, max_attempts=1)
        eventually(lambda: daemon.recorder.of(JobsSettled))
    told = conn.execute("SELECT outcome, records_processed FROM _ayb_job_executions").fetchall()
    assert told == [("failed", 5000 - left(conn))]
    assert left(conn) < 5000
