"""Leasing from many queues by turn: the order, what is locked, and that nothing is passed over for good."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ayb_jobs.model.job import LeasedJob
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.queue.beside_limits import lease_beside_limits
from ayb_jobs.storage.queue.lanes import Lane, turn_values
from ayb_jobs.storage.queue.leasing import lease_jobs
from ayb_jobs.storage.queue.turns import LEASE_BY_TURN

QUEUES = [f"queue {number}" for number in range(12)]
LANES = [Lane(queue, priority) for priority in range(1, 5) for queue in QUEUES]


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
        "SELECT id::text FROM _ayb_jobs WHERE run_at <= now() AND queue = ANY (%s) ORDER BY priority, run_at, id",
        (QUEUES,),
    )
    return [row[0] for row in rows]


def lease(conn: Connection, lanes: Sequence[Lane], limit: int, *, by_turn: bool = True) -> list[LeasedJob]:
    return lease_jobs(conn, worker_id="w", lanes=lanes, types=["test"], limit=limit, lease_s=60, by_turn=by_turn)


def lease_beside(conn: Connection, lanes: Sequence[Lane], limit: int, *, by_turn: bool = True) -> list[LeasedJob]:
    values: dict[str, Any] = {"worker_id": "w", "types": ["test"], "lease_s": 60}
    return lease_beside_limits(conn, lanes=lanes, limit=limit, by_turn=by_turn, **values).leased


JOBS = st.lists(
    st.builds(Waiting, st.sampled_from([*QUEUES[:6], "foreign"]), st.integers(1, 4), st.integers(-1, 5)), max_size=60
)


@pytest.mark.parametrize("leasing", [lease, lease_beside])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(jobs=JOBS, limit=st.integers(1, 20), shares=st.lists(st.integers(1, 8), min_size=48, max_size=48))
def test_whatever_the_shares_a_batch_by_turn_is_the_first_of_a_plain_sort(
    conn: Connection,
    leasing: Callable[..., list[LeasedJob]],
    jobs: list[Waiting],
    limit: int,
    shares: list[int],
) -> None:
    order = fill(conn, jobs)
    lanes = [lane._replace(share=share) for lane, share in zip(LANES, shares, strict=True)]
    while order:
        assert [job.id for job in leasing(conn, lanes, limit)] == order[:limit]
        order = order[limit:]
    assert leasing(conn, lanes, limit) == []


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    jobs=JOBS,
    limit=st.integers(1, 20),
    rooms=st.dictionaries(st.sampled_from(QUEUES[:6]), st.integers(1, 5)),
    by_turn=st.booleans(),
)
def test_no_queue_gets_more_than_its_room_and_its_first_jobs_come_first(
    conn: Connection, jobs: list[Waiting], limit: int, rooms: dict[str, int], by_turn: bool
) -> None:
    order = fill(conn, jobs)
    queues: dict[str, str] = dict(conn.execute("SELECT id::text, queue FROM _ayb_jobs").fetchall())
    lanes = [lane._replace(room=rooms.get(lane.queue, limit), share=3) for lane in LANES]
    leased = [job.id for job in lease(conn, lanes, limit, by_turn=by_turn)]
    taken = Counter(queues[job] for job in leased)
    assert len(leased) <= limit
    assert all(taken[queue] <= room for queue, room in rooms.items())
    for queue, count in taken.items():
        of_queue = [job for job in order if queues[job] == queue]
        assert [job for job in leased if queues[job] == queue] == of_queue[:count]
    # Whoever was left waiting has no room, or comes after what was met: a job of a full queue counts as met.
    if order and limit >= len(order):
        assert all(taken[queues[job]] >= rooms.get(queues[job], limit) for job in order if job not in leased)


LOCKABLE = "SELECT count(*) FROM (SELECT FROM _ayb_jobs WHERE state = 'queued' FOR UPDATE SKIP LOCKED) AS free"


def test_a_look_by_turn_locks_what_it_leases_and_no_more(conn: Connection, database_url: str) -> None:
    fill(conn, [Waiting(queue, 1 + number % 4, number % 7) for queue in QUEUES for number in range(40)])
    lanes = [lane._replace(share=20) for lane in LANES]
    with closing(connect(database_url)) as other, other.transaction():
        assert len(lease(other, lanes, 60)) == 60
        assert conn.execute(LOCKABLE).fetchone() == (480 - 60,)


def test_what_another_transaction_has_locked_is_made_up_from_the_same_queue(
    conn: Connection, database_url: str
) -> None:
    order = fill(conn, [Waiting(queue, 2, ago) for queue in QUEUES[:3] for ago in range(20)])
    with closing(connect(database_url)) as other, other.transaction():
        other.execute("SELECT FROM _ayb_jobs WHERE id = ANY (%s) FOR UPDATE", (order[:6],))
        leased = lease(conn, [lane._replace(share=5) for lane in LANES], 12)
    assert [job.id for job in leased] == order[6:18]


def test_many_leasers_by_turn_share_no_job_and_leave_none(db: Database, conn: Connection) -> None:
    order = fill(conn, [Waiting(queue, priority, 1) for queue in QUEUES for priority in range(1, 5) for _ in range(8)])
    leased: list[str] = []

    def drain() -> None:
        lanes = [lane._replace(share=2) for lane in LANES]
        with db.connection() as own:
            while jobs := lease(own, lanes, 20) or lease(own, lanes, 20, by_turn=False):
                leased.extend(job.id for job in jobs)

    threads = [threading.Thread(target=drain) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    leased += [job.id for job in lease(conn, LANES, 500, by_turn=False)]  # passed over by all of them
    assert Counter(leased) == Counter(order)


def test_jobs_of_queues_that_nobody_serves_are_not_read(conn: Connection) -> None:
    fill(conn, [Waiting(queue, 2, number) for number in range(1, 51) for queue in QUEUES])
    conn.execute(
        """INSERT INTO _ayb_jobs (type, queue, priority, run_at)
        SELECT 'test', 'foreign ' || number %% 50, 1 + number %% 4, now() - interval '1 day'
        FROM generate_series(1, %s) AS number""",
        (50_000,),
    )
    conn.execute("ANALYZE _ayb_jobs")
    lanes = [lane._replace(share=15) for lane in LANES]
    values = turn_values(lanes, ["test"], 100, by_turn=True, aside=()) | {"worker_id": "w", "lease_s": 60}
    (found,) = conn.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {LEASE_BY_TURN}", values).fetchone() or ()
    walks = [node for node in nodes(found[0]["Plan"]) if node.get("Alias") in ("job", "job_1")]
    assert {node["Index Name"] for node in walks} == {"idx_ayb_jobs_ready"}
    assert (
        sum((node["Actual Rows"] + node["Rows Removed by Filter"]) * node["Actual Loops"] for node in walks)
        <= 12 * 15 + 100
    )


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every node of a plan."""
    yield plan
    for inner in plan.get("Plans", ()):
        yield from nodes(inner)
