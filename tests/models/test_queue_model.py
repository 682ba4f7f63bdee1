"""The queue on real PostgreSQL against a model of it, under any order of what workers, clients and time may do.

Simulated workers keep what they were ever given, and settle, extend and release it however late. The model is a few
lines of Python that know nothing of SQL.
"""

import time
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule, run_state_machine_as_test

from ayb_jobs.client.enqueueing import enqueue
from ayb_jobs.errors import Conflict
from ayb_jobs.model.backoff import Backoff
from ayb_jobs.model.job import LeasedJob
from ayb_jobs.model.lifecycle import Settlement, settle_failure, settle_result
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.model.results import Cancel, Result, Snooze
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.queue.jobs import cancel_job, retry_job
from ayb_jobs.storage.queue.lanes import Lane
from ayb_jobs.storage.queue.leases import extend_leases, release_jobs
from ayb_jobs.storage.queue.leasing import lease_jobs
from ayb_jobs.storage.queue.settling import settle_jobs
from tests.recovering import recover, take_over

WORKERS = ("first", "second", "third")
AT_ONCE = Backoff(base_s=0, jitter_s=0, apart_s=0)
MAX_CRASHES = 3
LANES = [Lane("default", priority) for priority in range(1, 5)]
EMPTY = "DELETE FROM _ayb_job_executions; DELETE FROM _ayb_jobs"
ROWS = "SELECT id, state, attempts, max_attempts, crashes, lease_id FROM _ayb_jobs"
RUN_OUT = "UPDATE _ayb_jobs SET lease_until = now() - interval '1 second' WHERE state = 'running' AND id = %s"


@dataclass
class Row:
    """What the model knows of a job."""

    state: str = "queued"
    attempts: int = 0
    max_attempts: int = 3
    crashes: int = 0
    lease_id: str | None = None
    worker: str | None = None
    run_out: bool = False
    executions: int = 0

    def end(self, state: str) -> None:
        """End the lease."""
        self.state, self.lease_id, self.worker, self.run_out = state, None, None, False

    def lose(self) -> None:
        """Lose the lease."""
        used_up = self.attempts >= self.max_attempts or self.crashes + 1 >= MAX_CRASHES
        self.crashes += 1
        self.executions += 1
        self.end("failed" if used_up else "queued")


class Queue(RuleBasedStateMachine):
    """The queue and its model."""

    url = ""
    jobs = Bundle("jobs")
    held = Bundle("held")

    def __init__(self) -> None:
        super().__init__()
        self.conn: Connection = connect(self.url)
        self.conn.execute(EMPTY)
        self.model: dict[str, Row] = {}

    def teardown(self) -> None:
        """Close the connection."""
        self.conn.close()

    @rule(target=jobs, max_attempts=st.integers(1, 4), priority=st.integers(1, 4))
    def enqueue(self, max_attempts: int, priority: int) -> str:
        made = enqueue(self.conn, NewJob(type="test", max_attempts=max_attempts, priority=priority))
        self.model[made.id] = Row(max_attempts=max_attempts)
        return made.id

    @rule(target=held, worker=st.sampled_from(WORKERS), limit=st.integers(1, 3))
    def lease(self, worker: str, limit: int) -> object:
        self.conn.execute("UPDATE _ayb_jobs SET run_at = now() WHERE state = 'queued'")
        leased = lease_jobs(self.conn, worker_id=worker, lanes=LANES, types=["test"], limit=limit, lease_s=60)
        waiting = [row for row in self.model.values() if row.state == "queued"]
        assert len(leased) == min(limit, len(waiting))
        for job in leased:
            row = self.model[job.id]
            assert row.state == "queued"
            assert job.attempt == row.attempts + 1
            row.state, row.attempts, row.lease_id, row.worker = "running", job.attempt, job.lease_id, worker
        return multiple(*leased)

    @rule(job=held, ending=st.sampled_from([None, 7, Snooze(0), Cancel("enough"), "failure"]), times=st.integers(1, 2))
    def settle(self, job: LeasedJob, ending: Result | str, times: int) -> None:
        for _ in range(times):
            now = time.monotonic()
            settlement: Settlement = (
                settle_failure(job, "it broke", now, now, backoff=AT_ONCE, chance=0)
                if isinstance(ending, str)
                else settle_result(job, ending, now, now)
            )
            settled = settle_jobs(self.conn, [settlement], worker_id="anyone", now=now).leases
            row = self.model[job.id]
            assert settled == ({job.lease_id} if row.lease_id == job.lease_id else set())
            if settled:
                row.executions += 1
                row.max_attempts += isinstance(ending, Snooze)
                row.end(settlement.state)

    @rule(job=held)
    def extend(self, job: LeasedJob) -> None:
        kept = extend_leases(self.conn, [job.lease], lease_s=60).done
        row = self.model[job.id]
        assert kept == ({job.lease_id} if row.lease_id == job.lease_id else set())
        if kept:
            row.run_out = False

    @rule(job=held)
    def release(self, job: LeasedJob) -> None:
        released = release_jobs(self.conn, [job.lease]).done
        row = self.model[job.id]
        assert released == ({job.lease_id} if row.lease_id == job.lease_id else set())
        if released:
            row.attempts -= 1
            row.end("queued")

    @rule(job_id=jobs)
    def let_time_pass(self, job_id: str) -> None:
        self.conn.execute(RUN_OUT, (job_id,))
        row = self.model[job_id]
        row.run_out = row.state == "running"

    @rule()
    def recover(self) -> None:
        found = recover(self.conn, backoff=AT_ONCE).jobs
        lost = {job_id: row for job_id, row in self.model.items() if row.run_out}
        assert {job.id for job in found} == set(lost)
        for row in lost.values():
            row.lose()

    @rule(worker=st.sampled_from(WORKERS))
    def take_over(self, worker: str) -> None:
        found = take_over(self.conn, {worker: "infinity"}, backoff=AT_ONCE)
        lost = {job_id: row for job_id, row in self.model.items() if row.worker == worker and not row.run_out}
        assert {job.id for job in found} == set(lost)
        for row in lost.values():
            row.lose()

    @rule(job_id=jobs)
    def cancel(self, job_id: str) -> None:
        row = self.model[job_id]
        try:
            cancel_job(self.conn, job_id)
        except Conflict:
            assert row.state != "queued"
        else:
            assert row.state == "queued"
            row.end("canceled")

    @rule(job_id=jobs)
    def retry(self, job_id: str) -> None:
        row = self.model[job_id]
        try:
            retry_job(self.conn, job_id)
        except Conflict:
            assert row.state != "failed"
        else:
            assert row.state == "failed"
            row.attempts = row.crashes = 0
            row.end("queued")

    @invariant()
    def rows_are_as_the_model_says(self) -> None:
        rows = {row[0]: tuple(row[1:]) for row in self.conn.execute(ROWS)}
        assert rows == {
            job_id: (row.state, row.attempts, row.max_attempts, row.crashes, row.lease_id)
            for job_id, row in self.model.items()
        }

    @invariant()
    def each_ended_attempt_is_logged_once(self) -> None:
        logged = self.conn.execute("SELECT count(*), count(DISTINCT lease_id) FROM _ayb_job_executions").fetchone()
        ended = sum(row.executions for row in self.model.values())
        assert logged == (ended, ended)


@pytest.fixture
def queue(database_url: str) -> type[Queue]:
    return type("QueueHere", (Queue,), {"url": database_url})


def test_the_queue_does_as_its_model(queue: type[Queue]) -> None:
    run_state_machine_as_test(queue, settings=thoroughness(100, 40))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_queue_does_as_its_model_at_length(queue: type[Queue]) -> None:
    run_state_machine_as_test(queue, settings=thoroughness(1000, 50))


def thoroughness(examples: int, steps: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
