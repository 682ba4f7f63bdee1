"""Every interleaving of two producers with whoever ends a job, under each kind of limit that allows one job more.

Each actor has two steps, what it does and its commit. A step that waits for a lock is left waiting, and the others go
on. The same walk with a function that does not lock the limit finds the race: so the walk would see one.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import pytest

from ayb_jobs.model.backoff import Backoff
from ayb_jobs.model.job import LeasedJob
from ayb_jobs.model.lifecycle import settle_result
from ayb_jobs.model.limits import NewLimit
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet import limits
from ayb_jobs.storage.queue.limited import lease_limited
from ayb_jobs.storage.queue.settling import settle_jobs
from ayb_jobs.storage.rows import one_row
from tests.factories import make_job
from tests.interleaving import Actor, Step, actors, begun, commit, play, schedules
from tests.recovering import recover
from tests.sql_workers import settle


class Kind(NamedTuple):
    """A limit, and what of its jobs may be `allowed` at most: those that run, or those that have started."""

    new: NewLimit
    counted: str
    allowed: int


RUNNING = "SELECT count(*) FROM _ayb_jobs WHERE state = 'running'"
STARTED = "SELECT coalesce(sum(attempts), 0) FROM _ayb_jobs"
KINDS = {
    "a place": Kind(NewLimit(name="few", types=["test"], max_running=1), RUNNING, 1),
    "a place of a key": Kind(NewLimit(name="few", types=["test"], key_max_running=1), RUNNING, 1),
    "a token": Kind(NewLimit(name="few", types=["test"], rate="1/h", burst=2), STARTED, 2),
    "a token of a key": Kind(NewLimit(name="few", types=["test"], key_rate="1/h", key_burst=2), STARTED, 2),
}
FUNCTION = "SELECT pg_get_functiondef('_ayb_job_lease_limited'::regproc)"
LOCK = "it.name = p_name FOR NO KEY UPDATE;"
LOSE = "UPDATE _ayb_jobs SET lease_until = now() - interval '1 second' WHERE id = %s"


def lease(conn: Connection, room: int = 9) -> list[LeasedJob]:
    return lease_limited(conn, "few", room=room, types=["test"], queues=["default"], worker_id="w", lease_s=60).leased


def settled(job: LeasedJob, conn: Connection) -> None:
    now = time.monotonic()
    assert settle_jobs(conn, [settle_result(job, None, now, now)], worker_id="w", now=now).leases == {job.lease_id}


def settled_by_a_worker(job: LeasedJob, conn: Connection) -> None:
    assert settle(conn, job.id, job.lease_id) == "completed"


def recovered(job: LeasedJob, conn: Connection) -> None:
    assert [each.id for each in recover(conn, backoff=Backoff(base_s=0.0, jitter_s=0.0, apart_s=0.0)).jobs] == [job.id]


End = Callable[[LeasedJob, Connection], None]


def orders() -> list[list[int]]:
    """Return each order of two steps of three actors, but those that only swap the two producers."""
    return [order for order in schedules([2, 2, 2]) if order.index(0) < order.index(1)]


def begin(conn: Connection, end: End) -> LeasedJob:
    """Have one job run under the limit, and three wait; return the one that runs."""
    conn.execute("TRUNCATE _ayb_jobs, _ayb_job_limit_keys CASCADE")
    conn.execute("UPDATE _ayb_job_limits SET tat = '-infinity'")
    for _ in range(4):
        make_job(conn, limited_by="few", limited_key="a", priority=6)
    (job,) = lease(conn, room=1)
    if end is recovered:
        conn.execute(LOSE, (job.id,))
    return job


def most(conn: Connection, cast: Sequence[Actor], kind: Kind, end: End) -> int:
    """Return the most that ever ran, or had started, after any step of any interleaving; the first that is too many."""
    found = 0
    for order in orders():
        job = begin(conn, end)
        acts: list[Step] = [lease, lease, partial(end, job)]
        for actor, act in zip(cast, acts, strict=True):
            actor.begin([begun(act), commit])
        for number in order:
            cast[number].take()
            found = max(found, one_row(conn.execute(kind.counted.encode()))[0])
        play([], cast, [actor.left for actor in cast])
        found = max(found, one_row(conn.execute(kind.counted.encode()))[0])
        if found > kind.allowed:
            break
    return found


@pytest.mark.parametrize(
    ("name", "end"),
    [*((name, settled) for name in KINDS), ("a place", recovered), ("a place", settled_by_a_worker)],
)
def test_no_interleaving_of_producers_and_an_ending_exceeds_a_limit(
    database_url: str, conn: Connection, name: str, end: End
) -> None:
    with conn.transaction():
        limits.set_limit(conn, KINDS[name].new, by="ada")
    with actors(database_url, 3) as cast:
        assert most(conn, cast, KINDS[name], end) == KINDS[name].allowed


@pytest.mark.parametrize("name", KINDS)
def test_the_same_walk_finds_the_race_of_leasing_without_the_lock(
    database_url: str, conn: Connection, name: str
) -> None:
    with conn.transaction():
        limits.set_limit(conn, KINDS[name].new, by="ada")
    text = str(one_row(conn.execute(FUNCTION))[0])
    assert LOCK in text
    conn.execute(text.replace(LOCK, "it.name = p_name;").encode())
    with actors(database_url, 3) as cast:
        assert most(conn, cast, KINDS[name], settled) > KINDS[name].allowed
