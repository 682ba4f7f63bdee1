"""A job that is retried by hand has the attempts that it was given, however often it was put off."""

from collections.abc import Callable

import pytest

from ayb_jobs import NewJob, Snooze, enqueue, retry_job
from ayb_jobs.model.backoff import Backoff
from ayb_jobs.model.job import LeasedJob
from ayb_jobs.model.lifecycle import Outcome, settle_failure, settle_result
from ayb_jobs.operations.acting import Actor
from ayb_jobs.operations.defaults import Defaults
from ayb_jobs.operations.jobs import run_again
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue.bulk import retry_jobs
from ayb_jobs.storage.queue.lanes import Lane
from ayb_jobs.storage.queue.leasing import lease_jobs
from ayb_jobs.storage.queue.settling import settle_jobs
from tests.factories import make_job


def lease(conn: Connection) -> LeasedJob:
    conn.execute("UPDATE _ayb_jobs SET run_at = now()")
    lanes = [Lane("default", 2)]
    return lease_jobs(conn, worker_id="w", lanes=lanes, types=["test"], limit=1, lease_s=60)[0]


def put_off_and_failed(conn: Connection, snoozes: int) -> None:
    for _ in range(snoozes):
        settle_jobs(conn, [settle_result(lease(conn), Snooze(60), 0.0, 0.0)], worker_id="w", now=0.0)
    while conn.execute("SELECT FROM _ayb_jobs WHERE state = 'queued'").rowcount:
        failed = settle_failure(lease(conn), "no", 0.0, 0.0, backoff=Backoff(), chance=0.0, outcome=Outcome.FAILED)
        settle_jobs(conn, [failed], worker_id="w", now=0.0)


WAYS: dict[str, Callable[[Connection, str], object]] = {
    "one": retry_job,
    "all": lambda conn, _: retry_jobs(conn),
    "sql": lambda conn, job_id: conn.execute("SELECT ayb_jobs.ayb_jobs_retry(%s::uuid)", (job_id,)),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_retry_gives_the_attempts_that_the_job_was_given(conn: Connection, way: str) -> None:
    job = enqueue(conn, NewJob(type="test", max_attempts=2))
    for snoozes in (3, 0, 1):
        put_off_and_failed(conn, snoozes)
        assert conn.execute("SELECT attempts, max_attempts FROM _ayb_jobs").fetchone() == (2 + snoozes, 2 + snoozes)
        WAYS[way](conn, job.id)
        assert conn.execute("SELECT attempts, max_attempts FROM _ayb_jobs").fetchone() == (0, 2)


def test_what_runs_again_has_the_attempts_that_the_old_job_was_given(conn: Connection) -> None:
    job = enqueue(conn, NewJob(type="test", max_attempts=2))
    put_off_and_failed(conn, 3)
    again = run_again(conn, job.id, {}, actor=Actor(name="test"), defaults=lambda _: Defaults({}, 3))
    assert again.max_attempts == 2


@pytest.mark.parametrize("way", WAYS)
def test_a_count_of_attempts_that_cannot_be_keeps_no_job_from_being_retried(conn: Connection, way: str) -> None:
    bad, good = (make_job(conn, "failed", attempts=attempts) for attempts in (-1, 3))
    for job_id in (bad, good):
        WAYS[way](conn, job_id)
    assert conn.execute("SELECT DISTINCT state FROM _ayb_jobs").fetchall() == [("queued",)]
