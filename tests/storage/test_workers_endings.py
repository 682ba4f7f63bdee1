"""Settling by SQL: each ending does to its job what `model.lifecycle` decides, and what a daemon's settling writes."""

import time
from contextlib import closing, suppress
from itertools import product
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb

from ayb_jobs.model.backoff import Backoff
from ayb_jobs.model.job import JobState, LeasedJob
from ayb_jobs.model.lifecycle import TRANSITIONS, Outcome, Settlement, settle_canceled, settle_failure, settle_result
from ayb_jobs.model.results import Cancel, Returned, Snooze
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.hearing import Heard
from ayb_jobs.storage.queue.canceling import cancel_running_job, end_canceled
from ayb_jobs.storage.queue.lanes import Lane
from ayb_jobs.storage.queue.leases import release_jobs
from ayb_jobs.storage.queue.leasing import lease_jobs
from ayb_jobs.storage.queue.settling import settle_jobs
from tests.factories import make_job, make_schedule
from tests.sql_workers import lease, settle

LONG = "".join(map(chr, range(0x4E00, 0x4E00 + 20000)))
# An outcome with what is given beside it, and what the same ending is in Python.
ENDINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "completed": ("completed", {}),
    "completed with records": ("completed", {"records": 7}),
    "completed with a result": ("completed", {"result": Jsonb({"a": [1.5, None]})}),
    "canceled": ("canceled", {}),
    "canceled for a reason": ("canceled", {"error": "no use"}),
    "snoozed": ("snoozed", {"delay": "90 s"}),
    "failed": ("failed", {"error": "it broke", "records": 3}),
    "failed at length": ("failed", {"error": LONG}),
    "failed with a delay": ("failed", {"error": "it broke", "delay": "70 s"}),
    "timed out": ("timed_out", {"error": "too slow"}),
    "discarded": ("discarded", {"error": "no such order"}),
    "released": ("released", {}),
}
ATTEMPTS = [(1, 3), (2, 3), (3, 3), (5, 3), (9, 20)]


def decided(job: LeasedJob, outcome: str, given: dict[str, Any], *, now: float) -> Settlement:
    """Return what `model.lifecycle` makes of an ending."""
    error, records = given.get("error"), given.get("records")
    match outcome:
        case "completed":
            result = Returned('{"a": [1.5, null]}') if "result" in given else records
            return settle_result(job, result, now, now)
        case "canceled":
            return settle_result(job, Cancel(error) if error else Cancel(), now, now)
        case "snoozed":
            return settle_result(job, Snooze(90), now, now)
        case _:
            assert error is not None
            return settle_failure(
                job, error, now, now, backoff=Backoff(jitter_s=0), chance=0.0, outcome=Outcome(outcome), records=records,
                retry_after_s=70.0 if "delay" in given else None,
            )  # fmt: skip


WRITTEN = """
    SELECT to_jsonb(job) - ARRAY['id', 'run_at', 'created_at', 'updated_at', 'last_run_at', 'completed_at', 'canceled_at',
            'execution_id', 'cancel_requested_at'],
        completed_at = updated_at, canceled_at = updated_at, cancel_requested_at IS NOT NULL,
        floor(extract(epoch FROM run_at - updated_at) / 2)::int,
        (SELECT jsonb_agg(to_jsonb(execution) - ARRAY['id', 'job_id', 'lease_id', 'started_at', 'ended_at'])
            FROM _ayb_job_executions AS execution WHERE execution.job_id = job.id),
        (SELECT bool_and(execution.id = job.execution_id AND ended_at >= started_at AND execution.lease_id IS NOT NULL)
            FROM _ayb_job_executions AS execution WHERE execution.job_id = job.id),
        (SELECT result FROM _ayb_job_results WHERE job_id = job.id)
    FROM _ayb_jobs AS job WHERE id = %s
"""


@pytest.mark.parametrize("ending", ENDINGS)
def test_each_ending_writes_what_a_daemon_writes(conn: Connection, ending: str) -> None:
    outcome, given = ENDINGS[ending]
    for (attempt, most), asked_to_cancel in product(ATTEMPTS, (False, True)):
        ours, theirs = (
            make_job(conn, attempts=attempt - 1, max_attempts=most, run_at=sql.SQL("now() - interval '1 hour'"))
            for _ in range(2)
        )
        leased = {job.id: job for job in lease(conn, n=1)}
        (job,) = lease_jobs(conn, worker_id="w", lanes=[Lane("default", 2)], types=["test"], limit=1, lease_s=60)
        assert (set(leased), job.id) == ({ours}, theirs)
        if asked_to_cancel:
            cancel_running_job(conn, ours)
            cancel_running_job(conn, theirs)
        state = settle(conn, ours, leased[ours].lease_id, outcome, **given)
        now = time.monotonic()
        if outcome == "released" and not asked_to_cancel:
            release_jobs(conn, [job.lease])
        elif asked_to_cancel:
            # A daemon tells a handler that ends for it apart; what is given back ends with the bare words.
            bare = Settlement(job, JobState.QUEUED, Outcome.FAILED, None, None, None, now, now)
            ended = bare if outcome == "released" else decided(job, outcome, given, now=now)
            end_canceled(conn, [settle_canceled(ended)], worker_id="w", now=now)
        else:
            settle_jobs(conn, [decided(job, outcome, given, now=now)], worker_id="w", now=now)
        written = conn.execute(WRITTEN, (ours,)).fetchone()
        assert written == conn.execute(WRITTEN, (theirs,)).fetchone()
        assert written is not None
        assert written[0]["state"] == state
        assert JobState(state) in TRANSITIONS[JobState.RUNNING]
        conn.execute("DELETE FROM _ayb_jobs")


def test_every_outcome_of_an_attempt_is_one_of_a_workers_or_the_recoverers() -> None:
    assert {outcome for outcome, _ in ENDINGS.values()} == {*map(str, Outcome)} - {"lost"} | {"released"}


def test_a_retry_waits_as_long_as_a_daemons(conn: Connection) -> None:
    for attempt in (1, 2, 6, 7, 8, 200):
        job_id = make_job(conn, attempts=attempt - 1, max_attempts=1000)
        (job,) = lease(conn)
        settle(conn, job_id, job.lease_id, "failed", error="x")
        least, most = (Backoff().delay_s(attempt, chance) for chance in (0.0, 1.0))
        wait = conn.execute("SELECT extract(epoch FROM run_at - updated_at)::float8 FROM _ayb_jobs").fetchone()
        assert wait is not None
        assert least <= wait[0] <= most
        conn.execute("DELETE FROM _ayb_jobs")


def test_a_lost_lease_changes_nothing_and_is_told(conn: Connection) -> None:
    job_id = make_job(conn)
    (job,) = lease(conn)
    conn.execute("UPDATE _ayb_jobs SET lease_id = gen_random_uuid()")
    before = conn.execute("SELECT to_jsonb(job) FROM _ayb_jobs AS job").fetchone()
    with pytest.raises(
        psycopg.errors.ObjectNotInPrerequisiteState, match=f"the lease {job.lease_id} of job {job_id} is lost"
    ):
        settle(conn, job_id, job.lease_id)
    assert conn.execute("SELECT to_jsonb(job) FROM _ayb_jobs AS job").fetchone() == before
    with pytest.raises(psycopg.errors.NoDataFound, match="there is no job 01890000"):
        settle(conn, "01890000-0000-7000-8000-000000000000", job.lease_id)


def test_a_repeated_settling_finds_its_own_lease_settled(conn: Connection) -> None:
    job_id = make_job(conn)
    (job,) = lease(conn)
    assert [settle(conn, job_id, job.lease_id) for _ in range(2)] == ["completed", "completed"]
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        settle(conn, job_id, job.lease_id, "failed", error="x")
    assert conn.execute("SELECT count(*) FROM _ayb_job_executions").fetchone() == (1,)
    conn.execute("DELETE FROM _ayb_jobs")
    assert settle(conn, job_id, job.lease_id) == "completed"


def test_work_in_the_workers_own_transaction_is_undone_if_the_lease_is_lost(conn: Connection) -> None:
    conn.execute("CREATE TABLE orders (id int)")
    make_job(conn)
    (job,) = lease(conn)
    conn.execute("UPDATE _ayb_jobs SET lease_id = gen_random_uuid()")
    with suppress(psycopg.errors.ObjectNotInPrerequisiteState), conn.transaction():
        conn.execute("INSERT INTO orders VALUES (1)")
        settle(conn, job.id, job.lease_id)
    assert conn.execute("SELECT count(*) FROM orders").fetchone() == (0,)


def test_a_job_that_a_trigger_keeps_is_told(conn: Connection) -> None:
    make_job(conn)
    (job,) = lease(conn)
    conn.execute("CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
    conn.execute("CREATE TRIGGER keep BEFORE UPDATE ON _ayb_jobs FOR EACH ROW EXECUTE FUNCTION keep()")
    with pytest.raises(psycopg.errors.RaiseException, match="was not settled: a trigger"):
        settle(conn, job.id, job.lease_id)


def test_an_attempt_whose_number_is_taken_gets_another(conn: Connection) -> None:
    make_job(conn)
    (job,) = lease(conn)
    conn.execute("""
        INSERT INTO _ayb_job_executions (id, job_id, job_type, attempt, outcome, started_at, ended_at)
        SELECT execution_id, gen_random_uuid(), 'other', 1, 'failed', now(), now() FROM _ayb_jobs
    """)
    assert settle(conn, job.id, job.lease_id) == "completed"
    assert conn.execute("SELECT count(*) FROM _ayb_job_executions").fetchone() == (2,)


def test_whoever_waits_is_told(conn: Connection, database_url: str) -> None:
    """For a result, for a place under a limit, for another attempt that is due, and for the end of a parent."""
    parent, again, child = make_job(conn, type="parent"), make_job(conn, type="again"), make_job(conn, type="child")
    conn.execute(
        "INSERT INTO _ayb_job_dependencies (child_id, parent_id, rule) VALUES (%s, %s, 'run')", (child, parent)
    )
    jobs = {job.type: job for job in lease(conn, "parent", "again")}
    with closing(connect(database_url)) as listener:
        listener.execute("LISTEN ayb_jobs")
        listener.execute("LISTEN ayb_jobs_results")
        heard = Heard(listener)
        settle(conn, parent, jobs["parent"].lease_id, result=Jsonb(1))
        assert {(each.channel, each.payload) for each in heard.wait(10)} == {
            ("ayb_jobs_results", parent),
            ("ayb_jobs", f"ended {parent}"),
        }
        settle(conn, again, jobs["again"].lease_id, "failed", error="x", delay="0 s")
        assert [(each.channel, each.payload) for each in heard.wait(10)] == [("ayb_jobs", "")]
        (job,) = lease(conn, "again")
        conn.execute("UPDATE _ayb_jobs SET limited_by = 'few', limited_key = '', priority = 6 WHERE id = %s", (again,))
        settle(conn, again, job.lease_id, "failed", error="x")
        assert [(each.channel, each.payload) for each in heard.wait(10)] == [("ayb_jobs", "")]


def test_the_successor_of_a_canceled_job_of_a_schedule_starts(conn: Connection) -> None:
    schedule = make_schedule(conn, overlap="cancel_running")
    running = make_job(conn, schedule_id=schedule)
    (job,) = lease(conn)
    never = "9999-12-31 00:00:00+00"
    successor = make_job(conn, schedule_id=schedule, run_at=never, scheduled_for=sql.SQL("now()"))
    cancel_running_job(conn, running)
    assert settle(conn, running, job.lease_id) == "canceled"
    assert [job.id for job in lease(conn)] == [successor]
