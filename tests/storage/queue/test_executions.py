"""Reading the execution log."""

import pytest
from psycopg import sql

from ayb_jobs.model.lifecycle import Outcome
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue import executions
from ayb_jobs.storage.queue.executions import catch_up_execution_ids, list_executions
from tests.factories import make_job

FIRST, SECOND = "01890000-0000-7000-8000-000000000001", "01890000-0000-7000-8000-000000000002"


def make_execution(conn: Connection, outcome: str, job_id: str = FIRST, job_type: str = "a") -> int:
    row = conn.execute(
        "INSERT INTO _ayb_job_executions"
        " (id, job_id, job_type, attempt, outcome, error, records_processed, started_at, ended_at)"
        " VALUES (nextval('_ayb_job_execution_ids'), %s, %s, 2, %s, 'oh', 7, now() - interval '3 s', now()) RETURNING id",
        (job_id, job_type, outcome),
    ).fetchone()
    assert row is not None
    return int(row[0])


def test_an_ended_attempt_tells_all_about_itself(conn: Connection) -> None:
    make_execution(conn, "timed_out")
    (found,) = list_executions(conn)
    assert (found.job_id, found.job_type, found.attempt, found.error) == (FIRST, "a", 2, "oh")
    assert (found.outcome, found.success, found.records_processed) == (Outcome.TIMED_OUT, False, 7)
    assert found.ended_at is not None
    assert (found.ended_at - found.started_at).total_seconds() == 3


def test_a_running_attempt_has_neither_outcome_nor_end(conn: Connection) -> None:
    job_id = make_job(conn, "running", type="a", attempts=2)
    (found,) = list_executions(conn)
    assert (found.job_id, found.attempt, found.worker_id) == (job_id, 2, "factory")
    assert (found.outcome, found.success, found.ended_at) == (None, None, None)


def test_attempts_are_newest_first_whether_they_run_or_not(conn: Connection) -> None:
    made = [make_execution(conn, "failed")]
    make_job(conn, "running")
    made += [make_execution(conn, "completed"), make_execution(conn, "lost")]
    assert [found.id for found in list_executions(conn)] == [4, 3, 2, 1]
    assert made == [1, 3, 4]
    assert [found.id for found in list_executions(conn, limit=2)] == [4, 3]
    assert [found.id for found in list_executions(conn, before=3)] == [2, 1]


@pytest.mark.parametrize(
    ("outcome", "is_failure"),
    [(outcome, outcome not in {Outcome.COMPLETED, Outcome.SNOOZED}) for outcome in Outcome],
)
def test_failures_are_what_did_not_succeed(conn: Connection, outcome: Outcome, *, is_failure: bool) -> None:
    make_execution(conn, outcome)
    make_job(conn, "running")
    assert bool(list_executions(conn, only_failures=True)) == is_failure
    assert list_executions(conn)[1].success != is_failure


def test_attempts_are_found_by_job_and_by_type(conn: Connection) -> None:
    make_execution(conn, "failed", FIRST, "a")
    make_execution(conn, "failed", SECOND, "b")
    running = make_job(conn, "running", type="b")
    make_job(conn, "running", type="a")
    assert [found.job_id for found in list_executions(conn, job_id=SECOND)] == [SECOND]
    assert [found.job_id for found in list_executions(conn, job_type="b")] == [running, SECOND]


def test_an_instant_beyond_python_is_shown_as_near_as_can_be(conn: Connection) -> None:
    make_job(conn, "running", last_run_at=sql.SQL("'infinity'"))
    (found,) = list_executions(conn)
    assert found.started_at.year == 9999


@pytest.mark.parametrize("analyzed", [True, False])
def test_the_log_is_read_by_index(conn: Connection, *, analyzed: bool) -> None:
    conn.execute("""
        INSERT INTO _ayb_job_executions (id, job_id, job_type, attempt, outcome, started_at, ended_at)
        SELECT number, gen_random_uuid(), 'type ' || number % 2000, 1, 'completed', now(), now()
        FROM generate_series(1, 20000) AS number
    """)
    if analyzed:
        conn.execute("ANALYZE _ayb_job_executions")

    def plan(**values: object) -> str:
        filled_in = {
            "job_id": None,
            "job_type": None,
            "only_failures": False,
            "before": None,
            "down_to": None,
            "limit": 50,
        }
        rows = conn.execute(f"EXPLAIN {executions.LIST_EXECUTIONS}", {**filled_in, **values}, prepare=False)
        return "\n".join(row[0] for row in rows)

    assert "_ayb_job_executions_pkey" in plan()
    assert "idx_ayb_job_executions_job" in plan(job_id=FIRST)
    assert "idx_ayb_job_executions_type" in plan(job_type="type 3")
    assert "Seq Scan on _ayb_job_executions" not in plan(before=100)


def test_numbers_of_attempts_go_on_behind_a_restored_log(conn: Connection) -> None:
    conn.execute(
        "INSERT INTO _ayb_job_executions (id, job_id, job_type, attempt, outcome, started_at, ended_at)"
        " VALUES (5000, gen_random_uuid(), 'test', 1, 'completed', now(), now())"
    )
    catch_up_execution_ids(conn)
    assert conn.execute("SELECT nextval('_ayb_job_execution_ids')").fetchone() == (5002,)
    catch_up_execution_ids(conn)
    assert conn.execute("SELECT nextval('_ayb_job_execution_ids')").fetchone() == (5003,)
