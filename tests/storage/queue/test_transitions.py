"""The statements change states as the table in `model.lifecycle` says, from every state, and in no other way."""

from collections.abc import Callable
from contextlib import suppress
from itertools import product

import pytest
from psycopg import sql

from ayb_jobs.errors import Conflict
from ayb_jobs.model.backoff import Backoff
from ayb_jobs.model.job import JobState, Lease, LeasedJob
from ayb_jobs.model.lifecycle import (
    CANCELING,
    RETRYING,
    TRANSITIONS,
    Outcome,
    settle_failure,
    settle_result,
)
from ayb_jobs.model.results import Cancel, Result, Snooze
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue.bulk import cancel_jobs, retry_jobs
from ayb_jobs.storage.queue.jobs import cancel_job, retry_job
from ayb_jobs.storage.queue.lanes import Lane
from ayb_jobs.storage.queue.leases import release_jobs
from ayb_jobs.storage.queue.leasing import lease_jobs
from ayb_jobs.storage.queue.settling import settle_jobs
from tests.factories import leased_job, make_job
from tests.recovering import recover, take_over

LEASE_ID = "11111111-1111-4111-8111-111111111111"
AT_ONCE = Backoff(base_s=0, jitter_s=0, apart_s=0)
PAST = sql.SQL("now() - interval '1 second'")
Act = Callable[[Connection, str], object]


def held(job_id: str, *, attempt: int = 1) -> LeasedJob:
    return leased_job(id=job_id, lease_id=LEASE_ID, attempt=attempt)


def lease(conn: Connection, _: str) -> None:
    lease_jobs(conn, worker_id="w", lanes=[Lane("default", 2)], types=["test"], limit=1, lease_s=60)


def release(conn: Connection, job_id: str) -> None:
    release_jobs(conn, [Lease(job_id, LEASE_ID)])


def settle(result: Result) -> Act:
    return lambda conn, job_id: settle_jobs(
        conn, [settle_result(held(job_id), result, 0.0, 0.0)], worker_id="w", now=0.0
    )


def fail(attempt: int) -> Act:
    return lambda conn, job_id: settle_jobs(
        conn,
        [
            settle_failure(
                held(job_id, attempt=attempt), "no", 0.0, 0.0, backoff=AT_ONCE, chance=0.0, outcome=Outcome.FAILED
            )
        ],
        worker_id="w",
        now=0.0,
    )


def by_hand(act: Act) -> Act:
    def acted(conn: Connection, job_id: str) -> None:
        with suppress(Conflict):
            act(conn, job_id)

    return acted


# What each does to a job in each state in which it may do anything.
ACTS: dict[str, tuple[Act, dict[JobState, JobState]]] = {
    "lease": (lease, {JobState.QUEUED: JobState.RUNNING}),
    "release": (release, {JobState.RUNNING: JobState.QUEUED}),
    "complete": (settle(None), {JobState.RUNNING: JobState.COMPLETED}),
    "snooze": (settle(Snooze(1)), {JobState.RUNNING: JobState.QUEUED}),
    "cancel by its handler": (settle(Cancel()), {JobState.RUNNING: JobState.CANCELED}),
    "fail": (fail(1), {JobState.RUNNING: JobState.QUEUED}),
    "fail for good": (fail(3), {JobState.RUNNING: JobState.FAILED}),
    "recover": (lambda conn, _: recover(conn, backoff=AT_ONCE), {JobState.RUNNING: JobState.QUEUED}),
    "take over": (
        lambda conn, _: take_over(conn, {"dead": "infinity"}, backoff=AT_ONCE),
        {JobState.RUNNING: JobState.QUEUED},
    ),
    "cancel": (by_hand(cancel_job), {CANCELING.begins: CANCELING.ends}),
    "retry": (by_hand(retry_job), {RETRYING.begins: RETRYING.ends}),
    "cancel all": (lambda conn, _: cancel_jobs(conn), {CANCELING.begins: CANCELING.ends}),
    "retry all": (lambda conn, _: retry_jobs(conn), {RETRYING.begins: RETRYING.ends}),
}


@pytest.mark.parametrize(("name", "state"), list(product(ACTS, JobState)))
def test_a_statement_changes_a_state_as_the_table_says(conn: Connection, name: str, state: JobState) -> None:
    act, follows = ACTS[name]
    lease_until = sql.SQL("now() + interval '1 hour'") if name == "take over" else PAST
    # Plain SQL that ends a running job may leave the lease in the row.
    job_id = make_job(conn, state, lease_id=LEASE_ID, lease_until=lease_until, worker_id="dead")
    act(conn, job_id)
    assert conn.execute("SELECT state FROM _ayb_jobs").fetchone() == (follows.get(state, state),)


def test_the_statements_make_every_legal_transition_and_no_other() -> None:
    made = {(begins, ends) for _, follows in ACTS.values() for begins, ends in follows.items()}
    assert made == {(begins, ends) for begins, all_ends in TRANSITIONS.items() for ends in all_ends}
