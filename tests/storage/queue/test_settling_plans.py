"""Settling a batch is as cheap by the plan for any values, which a connection keeps, as by one for its own values."""

import time

import pytest

from ayb_jobs.model.lifecycle import settle_result
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue import settling
from ayb_jobs.storage.queue.lanes import Lane
from ayb_jobs.storage.queue.leasing import lease_jobs

BATCH = 500
# So often the server makes a plan for the values that are given, before it tries one for any.
PLANNED_ANEW = 5


@pytest.mark.parametrize("name", ["COMPLETE_JOBS", "SETTLE_JOBS", "REMOVE_COMPLETED_JOBS", "SETTLE_AND_REMOVE_JOBS"])
def test_the_plan_that_is_kept_compares_no_job_with_all_of_its_batch(conn: Connection, name: str) -> None:
    rounds = 2 * PLANNED_ANEW + 1
    conn.execute("INSERT INTO _ayb_jobs (type) SELECT 'test' FROM generate_series(1, %s)", (rounds * BATCH,))
    took: list[float] = []
    for _ in range(rounds):
        leased = lease_jobs(conn, worker_id="w", lanes=[Lane("default", 2)], types=["test"], limit=BATCH, lease_s=60)
        values = settling.settled_values([settle_result(job, None, 0.0, 0.0) for job in leased], "w", 0.0)
        began = time.perf_counter()
        conn.execute(getattr(settling, name), values, prepare=True)
        took.append(time.perf_counter() - began)
    assert conn.execute("SELECT count(*) FROM _ayb_jobs WHERE state <> 'completed'").fetchone() == (0,)
    assert min(took[PLANNED_ANEW + 1 :]) < 3 * min(took[:PLANNED_ANEW])
