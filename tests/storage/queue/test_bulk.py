"""Many jobs at once."""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import islice

import psycopg
import pytest
from psycopg import sql

from ayb_jobs.client.enqueueing import enqueue_many
from ayb_jobs.client.steps import time_ordered_ids
from ayb_jobs.errors import InvalidInput
from ayb_jobs.model.filters import Filter
from ayb_jobs.model.job import JobState
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue import bulk
from ayb_jobs.storage.queue.jobs import list_jobs
from tests.factories import make_job


def types(conn: Connection) -> list[str]:
    return [row[0] for row in conn.execute("SELECT type FROM _ayb_jobs ORDER BY run_at, id")]


def test_many_jobs_are_stored_as_they_were_asked_for(conn: Connection) -> None:
    hostile = 'a\tb\nc\\d "e" ü'
    asked = [NewJob(type=hostile, payload={hostile: [hostile, None, 1.5]}, queue=hostile, priority=4, max_attempts=9)]
    assert enqueue_many(conn, asked) == 1
    (job,) = list_jobs(conn)
    assert (job.type, job.queue, job.priority, job.max_attempts, job.state) == (hostile, hostile, 4, 9, JobState.QUEUED)
    stored = conn.execute("SELECT payload FROM _ayb_jobs").fetchone()
    assert stored == ({hostile: [hostile, None, 1.5]},)


def test_jobs_of_one_call_are_leased_in_the_order_given(conn: Connection) -> None:
    names = [f"t{number}" for number in range(300)]
    enqueue_many(conn, (NewJob(type=name) for name in names))
    assert types(conn) == names


def test_each_job_gets_its_own_time(conn: Connection) -> None:
    at = datetime(2040, 1, 1, tzinfo=UTC)
    asked = [NewJob(type="now"), NewJob(type="later", delay=timedelta(hours=1)), NewJob(type="then", run_at=at)]
    assert enqueue_many(conn, asked) == 3
    now, later, then = sorted(list_jobs(conn), key=lambda job: job.run_at)
    assert (now.run_at - now.created_at, later.run_at - later.created_at, then.run_at) == (
        timedelta(0), timedelta(hours=1), at,
    )  # fmt: skip


def test_taken_keys_are_left_out_and_not_counted(conn: Connection) -> None:
    make_job(conn, "completed", idempotency_key="old")
    asked = [NewJob(type="a", idempotency_key=key) for key in ("old", "new", "new", None)]
    assert enqueue_many(conn, asked) == 2
    assert len(list_jobs(conn)) == 3


def test_a_call_notifies_once_and_only_where_a_job_is_due(conn: Connection, notified: Callable[[], int]) -> None:
    enqueue_many(conn, [NewJob(type="a"), NewJob(type="b"), NewJob(type="c", idempotency_key="k")])
    assert notified() == 1
    enqueue_many(conn, [NewJob(type="a", delay=timedelta(hours=1))])
    enqueue_many(conn, [])
    assert notified() == 0


def test_one_bad_job_keeps_all_from_being_made(conn: Connection) -> None:
    good = NewJob(type="a")
    for bad in (NewJob(type="a", payload=object()), NewJob(type="a", traceparent="x" * 56)):
        with pytest.raises(InvalidInput):
            enqueue_many(conn, [good, bad])
        with conn.transaction():
            conn.execute("CREATE TABLE IF NOT EXISTS applications_own ()")
            with pytest.raises(InvalidInput):
                enqueue_many(conn, [good, bad])
            conn.execute("SELECT FROM applications_own")
    assert list_jobs(conn) == []


def test_the_callers_transaction_decides(conn: Connection, database_url: str) -> None:
    with psycopg.connect(database_url) as application:
        enqueue_many(application, [NewJob(type="a")])
        application.rollback()
        enqueue_many(application, [NewJob(type="b"), NewJob(type="c", idempotency_key="k")])
        assert list_jobs(conn) == []
        application.commit()
    assert sorted(types(conn)) == ["b", "c"]


def test_ids_made_here_are_those_of_version_7_and_rise() -> None:
    ids = list(islice(time_ordered_ids(), 1000))
    assert ids == sorted(ids)
    assert {(uuid.UUID(id_).version, uuid.UUID(id_).variant) for id_ in ids} == {(7, uuid.RFC_4122)}
    assert len({next(time_ordered_ids())[-16:] for _ in range(100)}) == 100


def test_failed_jobs_are_retried_in_batches_each_once(conn: Connection, notified: Callable[[], int]) -> None:
    for number in range(5):
        make_job(conn, "failed", type="a" if number else "b", queue="q", crashes=1)
    untouched = make_job(conn, "completed", type="a", queue="q")
    first = bulk.retry_jobs(conn, wanted=Filter(type="a", queue="q"), limit=3)
    assert first.rows == 3
    conn.execute("UPDATE _ayb_jobs SET state = 'failed' WHERE state = 'queued'")  # they fail again meanwhile
    second = bulk.retry_jobs(conn, wanted=Filter(type="a", queue="q"), limit=3, after=first.next)
    assert (second.rows, second.next) == (1, None)
    assert notified() == 2
    (retried,) = list_jobs(conn, state=JobState.QUEUED)
    assert (retried.attempts, retried.crashes, retried.run_at) == (0, 0, retried.updated_at)
    assert [job.id for job in list_jobs(conn, state=JobState.COMPLETED)] == [untouched]


HOUR = timedelta(hours=1)
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
FAULT = "OSError: 5 bytes of 0x1f at 01a2004a-7ce6-73df-870b-0ffd3822d729 in job 7\n  File line 3"


@pytest.mark.parametrize(
    "wanted",
    [
        Filter(type="a"),
        Filter(queue="q"),
        Filter(key="k"),
        Filter(since=NOON, until=NOON + HOUR),
        Filter(error="AT 01A2"),
        Filter(alike="OSError: <n> bytes of <n> at <n> in job <n>"),
    ],
)
def test_a_filter_finds_the_jobs_that_match_all_that_it_says(conn: Connection, wanted: Filter) -> None:
    columns = {"type": "a", "queue": "q", "idempotency_key": "k", "created_at": NOON, "last_error": FAULT}
    meant = make_job(conn, "failed", **columns)
    make_job(conn, "failed", created_at=NOON + HOUR, last_error="OSError: 5 bytes of 6")
    make_job(conn, "failed", created_at=NOON - HOUR, last_error="ValueError: OSError")
    assert bulk.count_jobs(conn, state=JobState.FAILED, wanted=wanted) == 1
    assert bulk.glimpse_jobs(conn, state=JobState.FAILED, wanted=Filter(), most=2) == (2, False)
    assert bulk.retry_jobs(conn, wanted=wanted).ids == [meant]


def test_queued_jobs_are_canceled_in_batches(conn: Connection) -> None:
    for number in range(5):
        make_job(conn, type="a", queue="p" if number == 4 else "q")
    running = make_job(conn, "running", type="a", queue="q")
    assert bulk.count_jobs(conn, state=JobState.QUEUED, wanted=Filter(type="a", queue="q")) == 4
    first = bulk.cancel_jobs(conn, wanted=Filter(type="a", queue="q"), limit=3)
    second = bulk.cancel_jobs(conn, wanted=Filter(type="a", queue="q"), limit=3, after=first.next)
    assert (first.rows, second.rows, second.next) == (3, 1, None)
    canceled = list_jobs(conn, state=JobState.CANCELED)
    assert len(canceled) == 4
    assert all(job.canceled_at == job.updated_at for job in canceled)
    assert [job.id for job in list_jobs(conn, state=JobState.RUNNING)] == [running]


def test_a_job_that_somebody_holds_is_passed_over(conn: Connection, database_url: str) -> None:
    held = make_job(conn, "failed")
    make_job(conn, "failed")
    with psycopg.connect(database_url) as other:
        other.execute(sql.SQL("SELECT FROM _ayb_jobs WHERE id = {} FOR UPDATE").format(held))
        assert bulk.retry_jobs(conn).rows == 1
    assert [job.id for job in list_jobs(conn, state=JobState.FAILED)] == [held]


def test_each_batch_goes_on_behind_the_one_before_also_at_the_ends_of_time(conn: Connection) -> None:
    make_job(conn, unique_key="k")
    taken = [
        make_job(conn, "failed", created_at=at, unique_key="k") for at in ("-infinity", "20000-01-01", "infinity") * 2
    ]
    batch = bulk.retry_jobs(conn, limit=1)
    steps = 1
    while batch.next:
        batch = bulk.retry_jobs(conn, limit=1, after=batch.next)
        steps += 1
        assert steps <= len(taken) + 1
    assert steps == len(taken) + 1
