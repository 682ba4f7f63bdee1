"""What handlers return is kept by the statement that settles, under its lease, and removed once it is old."""

import json
import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from psycopg import sql

from ayb_jobs.config import Retention
from ayb_jobs.model.lifecycle import settle_result
from ayb_jobs.model.results import Result, Snooze, as_result
from ayb_jobs.runtime.chores.pruner import Pruner
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue import settling
from ayb_jobs.storage.queue.jobs import get_job
from ayb_jobs.storage.queue.lanes import Lane
from ayb_jobs.storage.queue.leasing import lease_jobs
from ayb_jobs.storage.queue.results import prune_results
from ayb_jobs.storage.queue.settling import settle_jobs
from tests.factories import make_job
from tests.storage.queue.test_twins import steps, words

LANES = [Lane("default", 2)]


def lease(conn: Connection) -> Any:
    return lease_jobs(conn, worker_id="w1", lanes=LANES, types=["test"], limit=100, lease_s=60)


def settle(conn: Connection, jobs: Any, *returned: object, remove_completed: bool = False) -> set[str]:
    now = time.monotonic()
    results: list[Result] = [as_result(one) for one in returned]
    endings = [settle_result(job, result, now - 1, now) for job, result in zip(jobs, results, strict=True)]
    return settle_jobs(conn, endings, worker_id="w1", now=now, remove_completed=remove_completed).leases


def kept(conn: Connection) -> dict[str, Any]:
    return dict(conn.execute("SELECT job_id::text, result FROM _ayb_job_results").fetchall())


@pytest.mark.parametrize("remove_completed", [False, True])
def test_the_results_of_a_batch_are_kept_with_their_jobs(conn: Connection, remove_completed: bool) -> None:
    for _ in range(6):
        make_job(conn)
    jobs = lease(conn)
    returned = [{"n": 1}, None, [1, "ä\\"], 7, False, Snooze(1)]
    assert len(settle(conn, jobs, *returned, remove_completed=remove_completed)) == 6
    assert kept(conn) == {jobs[0].id: {"n": 1}, jobs[2].id: [1, "ä\\"], jobs[4].id: False}


def test_a_lost_lease_keeps_no_result(conn: Connection) -> None:
    make_job(conn)
    jobs = lease(conn)
    conn.execute("UPDATE _ayb_jobs SET lease_id = gen_random_uuid()")
    assert settle(conn, jobs, {"n": 1}) == set()
    assert kept(conn) == {}


@pytest.mark.parametrize("remove_completed", [False, True])
def test_a_batch_without_results_sends_the_statement_without_them(conn: Connection, remove_completed: bool) -> None:
    conn.execute("DROP TABLE _ayb_job_results")
    make_job(conn)
    make_job(conn)
    assert len(settle(conn, lease(conn), None, 5, remove_completed=remove_completed)) == 2


@pytest.mark.parametrize(
    ("plain", "keeping"),
    [
        (settling.SETTLE_JOBS, settling.SETTLE_JOBS_WITH_RESULTS),
        (settling.COMPLETE_JOBS, settling.COMPLETE_JOBS_WITH_RESULTS),
        (settling.REMOVE_COMPLETED_JOBS, settling.REMOVE_COMPLETED_JOBS_WITH_RESULTS),
        (settling.SETTLE_AND_REMOVE_JOBS, settling.SETTLE_AND_REMOVE_JOBS_WITH_RESULTS),
    ],
)
def test_keeping_results_is_one_step_more(plain: str, keeping: str) -> None:
    without, with_results = steps(plain), steps(keeping)
    assert set(with_results) - set(without) == {"kept"}
    for step, text in without.items():
        assert words(with_results[step]) == words(text)


def test_a_job_is_shown_with_its_result(conn: Connection) -> None:
    job_id = make_job(conn)
    assert get_job(conn, job_id).result_text is None
    settle(conn, lease(conn), {"sent": True})
    assert json.loads(get_job(conn, job_id).result_text or "") == {"sent": True}


def test_results_are_removed_once_they_are_old_and_jobs_need_not_be_there(db: Database, conn: Connection) -> None:
    conn.execute(
        "INSERT INTO _ayb_job_results (job_id, result, ended_at) SELECT gen_random_uuid(), '1', now() - hours * interval '1 h'"
        " FROM unnest(ARRAY[1, 71, 73, 1000]) AS hours"
    )
    assert prune_results(conn, keep=timedelta(hours=500), batch=10) == (1, 0)
    stopping = threading.Event()
    Pruner(database=db, retention=Retention(results_h=-1), emit=lambda _: None, stopping=stopping).tick()
    assert conn.execute("SELECT count(*) FROM _ayb_job_results").fetchone() == (3,)
    Pruner(database=db, retention=Retention(), emit=lambda _: None, stopping=stopping).tick()
    assert conn.execute("SELECT count(*) FROM _ayb_job_results").fetchone() == (2,)


def test_removing_old_results_passes_over_those_that_are_referred_to(db: Database, conn: Connection) -> None:
    conn.execute(
        "INSERT INTO _ayb_job_results (job_id, result, ended_at)"
        " SELECT gen_random_uuid(), '1', now() - interval '1 year' FROM generate_series(1, 20)"
    )
    conn.execute("CREATE TABLE app (job_id uuid REFERENCES _ayb_job_results (job_id))")
    conn.execute("INSERT INTO app SELECT job_id FROM _ayb_job_results LIMIT 3")
    Pruner(database=db, retention=Retention(), emit=lambda _: None, stopping=threading.Event()).tick()
    assert conn.execute("SELECT count(*) FROM _ayb_job_results").fetchone() == (3,)


def test_a_result_written_by_plain_sql_can_be_shown(conn: Connection) -> None:
    job_id = make_job(conn)
    conn.execute(
        sql.SQL("INSERT INTO _ayb_job_results VALUES ({}, to_jsonb(repeat('x', 6000000)))").format(sql.Literal(job_id))
    )
    assert len(get_job(conn, job_id).result_text or "") < 6_100_000
