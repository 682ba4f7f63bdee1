"""Leasing from many queues by turn: the order, what is locked, and that nothing is passed over for good."""

import random
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ayb_jobs.model.job import LeasedJob
from ayb_jobs.runtime.jobs.lanes import Lanes
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.queue.lanes import Lane
from ayb_jobs.storage.queue.leasing import lease_jobs
from ayb_jobs.storage.queue.limited import lease_beside_limits

QUEUES = [f"queue {number}" for number in range(12)]
LANES = [Lane(queue, priority) for priority in range(1, 5) for queue in QUEUES]
FIRST = Lane.__new__.__defaults__


class Waiting(NamedTuple):
    """A job that waits, with its due time in seconds ago."""

    queue: str
    priority: int
    ago: int


def fill(conn: Connection, jobs: Sequence[Waiting]) -> list[str]:
    """Insert these jobs, and return the ids of those that are due in the order in which they are to be leased."""
    conn.execute("TRUNCATE _ayb_jobs CASCADE")
    conn.execute(
        """INSERT INTO _ayb_jobs (type, queue, priority, run_at)
        SELECT 'test', queue, priority, date_trunc('minute', now()) - ago * interval '1 hour'
        FROM unnest(%s::text[], %s::int[], %s::int[]) AS job (queue, priority, ago)""",
        ([job.queue for job in jobs], [job.priority for job in jobs], [job.ago for job in jobs]),
    )
    rows = conn.execute(
        "SELECT id::text FROM _ayb_jobs WHERE run_at <= now() AND queue = ANY (%s) ORDER BY priority, run_at, id", (QUEUES,)
    )
    return [row[0] for row in rows]


def lease(conn: Connection, lanes: Sequence[Lane], limit: int, *, by_turn: bool = True) -> list[LeasedJob]:
    return lease_jobs(conn, worker_id="w", lanes=lanes, types=["test"], limit=limit, lease_s=60, by_turn=by_turn)


JOBS = st.lists(
    st.builds(Waiting, st.sampled_from([*QUEUES[:6], "foreign"]), st.integers(1, 4), st.integers(-1, 5)), max_size=60
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(jobs=JOBS, limit=st.integers(1, 20), shares=st.lists(st.integers(1, 8), min_size=48, max_size=48))
def test_whatever_the_shares_a_batch_by_turn_is_the_first_of_a_plain_sort(
    conn: Connection, jobs: list[Waiting], limit: int, shares: list[int]
) -> None:
    order = fill(conn, jobs)
    lanes = [lane._replace(share=share) for lane, share in zip(LANES, shares, strict=True)]
    while order:
        leased = lease(conn, lanes, limit)
        assert [job.id for job in leased] == order[:limit]
        order = order[limit:]
    assert lease(conn, lanes, limit) == []
