"""Retention, batch by batch."""

from datetime import timedelta
from itertools import product

import psycopg
import pytest
from psycopg import sql

from ayb_jobs.model.job import JobState
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue import pruning
from ayb_jobs.storage.queue.jobs import list_jobs
from ayb_jobs.storage.schedules.overdue import list_overdue
from tests.factories import make_job, make_schedule

DAY = timedelta(days=1)
END = {"completed": "completed_at", "canceled": "canceled_at", "failed": "updated_at"}


def days_ago(days: float) -> sql.SQL:
    return sql.SQL(f"now() - interval '{days} days'")


def make_ended(conn: Connection, state: str, created: float, ended: float) -> str:
    return make_job(
        conn, state, created_at=days_ago(created), **{"updated_at": days_ago(ended), END[state]: days_ago(ended)}
    )


def make_execution(conn: Connection, ended: float) -> None:
    conn.execute(
        sql.SQL(
            "INSERT INTO _ayb_job_executions (id, job_id, job_type, attempt, outcome, started_at, ended_at)"
            " VALUES (nextval('_ayb_job_execution_ids'), gen_random_uuid(), 'a', 1, 'completed', {}, {})"
        ).format(days_ago(ended), days_ago(ended))
    )


def execution_ids(conn: Connection) -> list[int]:
    return [row[0] for row in conn.execute("SELECT id FROM _ayb_job_executions ORDER BY id")]


@pytest.mark.parametrize("state", [JobState.COMPLETED, JobState.CANCELED, JobState.FAILED])
def test_only_jobs_that_ended_long_ago_in_that_state_go(conn: Connection, state: JobState) -> None:
    make_ended(conn, state, created=5, ended=3)
    kept = {
        make_ended(conn, state, created=5, ended=1),
        *(
            make_job(conn, other, created_at=days_ago(9), updated_at=days_ago(9), canceled_at=None, completed_at=None)
            for other in JobState
            if other is not state
        ),
    }
    assert pruning.prune_jobs(conn, state=state, keep=2 * DAY) == (1, None, 0)
    assert {job.id for job in list_jobs(conn)} == kept


def test_batches_go_on_where_the_one_before_ended(conn: Connection) -> None:
    for number in range(7):
        make_ended(conn, "completed", created=10 + number % 3, ended=9)
    survivor = make_ended(conn, "completed", created=11, ended=1)
    batches, after = [], None
    while True:
        batch = pruning.prune_jobs(conn, state=JobState.COMPLETED, keep=2 * DAY, limit=3, after=after)
        batches.append(batch.rows)
        after = batch.next
        if after is None:
            break
    assert (sum(batches), len(batches)) == (7, 3)
    assert [job.id for job in list_jobs(conn)] == [survivor]


def test_a_job_that_somebody_holds_stays_for_the_next_time(conn: Connection, database_url: str) -> None:
    held = make_ended(conn, "failed", created=9, ended=9)
    with psycopg.connect(database_url) as other:
        other.execute("SELECT FROM _ayb_jobs FOR UPDATE")
        assert pruning.prune_jobs(conn, state=JobState.FAILED, keep=DAY).rows == 0
    assert [job.id for job in list_jobs(conn)] == [held]


def test_a_later_change_of_the_row_does_not_keep_a_job(conn: Connection) -> None:
    make_job(conn, "completed", created_at=days_ago(9), updated_at=days_ago(0), completed_at=days_ago(9))
    assert pruning.prune_jobs(conn, state=JobState.COMPLETED, keep=DAY).rows == 1


def test_jobs_without_an_end_on_record_go_by_their_last_change(conn: Connection) -> None:
    make_job(conn, "completed", created_at=days_ago(9), updated_at=days_ago(9), completed_at=None)
    assert pruning.prune_jobs(conn, state=JobState.COMPLETED, keep=DAY).rows == 1


@pytest.mark.parametrize("state", [JobState.COMPLETED, JobState.CANCELED, JobState.FAILED])
@pytest.mark.parametrize("analyzed", [True, False])
def test_pruning_walks_an_index(conn: Connection, state: JobState, *, analyzed: bool) -> None:
    conn.execute("ALTER TABLE _ayb_jobs SET (autovacuum_enabled = false)")  # it would analyze at a moment of its own
    conn.execute("""
        INSERT INTO _ayb_jobs (type, state, created_at)
        SELECT 'a', CASE number % 100 WHEN 0 THEN 'failed' WHEN 1 THEN 'canceled' ELSE 'completed' END,
            now() - make_interval(hours => number)
        FROM generate_series(1, 50000) AS number
    """)
    if analyzed:
        conn.execute("ANALYZE _ayb_jobs")
    rare_state = None if state is JobState.COMPLETED else state
    values = {
        "state": state,
        "rare_state": rare_state,
        "keep": 30 * DAY,
        "limit": 100,
        "after_at": None,
        "after_id": None,
    }
    rows = conn.execute(f"EXPLAIN {pruning.PRUNE_JOBS}", values, prepare=False)
    plan = "\n".join(row[0] for row in rows)
    assert "Seq Scan" not in plan
    assert plan.count("Tid Scan") == 2
    index = "idx_ayb_jobs_created" if state is JobState.COMPLETED else f"idx_ayb_jobs_{state}"
    assert index in plan


def test_only_executions_that_ended_long_ago_go(conn: Connection) -> None:
    for ended in (5, 4, 1, 3, 0):
        make_execution(conn, ended)
    assert pruning.prune_executions(conn, keep=2 * DAY) == (3, None, 0)
    assert execution_ids(conn) == [3, 5]


def test_executions_go_in_batches_until_one_has_nothing_old(conn: Connection) -> None:
    for ended in (9, 9, 9, 9, 1, 1, 1, 1, 9):
        make_execution(conn, ended)
    first = pruning.prune_executions(conn, keep=2 * DAY, limit=3)
    second = pruning.prune_executions(conn, keep=2 * DAY, limit=3, after=first.next or 0)
    third = pruning.prune_executions(conn, keep=2 * DAY, limit=3, after=second.next or 0)
    fourth = pruning.prune_executions(conn, keep=2 * DAY, limit=3, after=third.next or 0)
    assert (first, second, third, fourth) == ((3, 3, 0), (1, 6, 0), (1, 9, 0), (0, None, 0))
    assert execution_ids(conn) == [5, 6, 7, 8]
    assert pruning.prune_executions(conn, keep=2 * DAY, limit=3) == (0, None, 0)


def test_the_last_success_of_a_schedule_that_is_expected_to_succeed_stays(conn: Connection) -> None:
    expected, free = (make_schedule(conn, expect_success_within_s=within) for within in (40 * 86_400, None))
    for schedule_id, ended in product((expected, free), (50, 20, 10)):
        make_execution(conn, ended)
        conn.execute(
            "UPDATE _ayb_job_executions SET schedule_id = %s WHERE schedule_id IS NULL AND job_type = 'a'",
            (schedule_id,),
        )
    for ended in (9, 8):  # what came later did not succeed
        make_execution(conn, ended)
        conn.execute(
            "UPDATE _ayb_job_executions SET schedule_id = %s, outcome = 'failed' WHERE schedule_id IS NULL", (expected,)
        )
    assert pruning.find_old_executions(conn, keep=7 * DAY).ids == [1, 2, 4, 5, 6, 7, 8]
    assert pruning.prune_executions(conn, keep=7 * DAY) == (7, None, 0)
    assert execution_ids(conn) == [3]
    conn.execute("UPDATE _ayb_job_schedules SET planned = 'x', watched_since = now() - interval '90 days'")
    conn.execute("UPDATE _ayb_job_schedules SET next_run_at = now() + interval '1 day'")
    assert list_overdue(conn) == []
    make_execution(conn, 5)
    conn.execute("UPDATE _ayb_job_executions SET schedule_id = %s WHERE schedule_id IS NULL", (expected,))
    assert pruning.prune_executions(conn, keep=3 * DAY)[0] == 1
    assert len(execution_ids(conn)) == 1
