"""Every interleaving of producers with whoever changes a limit, or puts jobs under it, in any order of their commits.

Each walk is repeated with a statement that leaves out what keeps the limit exact, and then finds the race: so the walk
would see one.
"""

from collections.abc import Sequence
from functools import partial
from typing import LiteralString

import pytest

from ayb_jobs.model.limits import NewLimit
from ayb_jobs.storage.arrays import plain_array
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet import limits
from ayb_jobs.storage.queue.beside_limits import lease_beside_limits
from ayb_jobs.storage.queue.lanes import Lane
from ayb_jobs.storage.queue.leasing import lease_jobs
from ayb_jobs.storage.queue.put_under import PUT_UNDER
from ayb_jobs.storage.rows import one_row
from tests.factories import make_job
from tests.interleaving import Step, actors, begun, commit, play, schedules
from tests.storage.queue.test_limit_interleavings import FUNCTION, LOCK, RUNNING, lease
from tests.storage.queue.test_limited_pinned import SPEND

LANES = [Lane("default", priority) for priority in range(1, 5)]
NO_MARK = "UPDATE _ayb_job_limits SET running_from = 0 WHERE false AND name"
EMPTY = "TRUNCATE _ayb_jobs, _ayb_job_limits"


def set_most(conn: Connection, most: int) -> None:
    limits.set_limit(conn, NewLimit(name="few", types=["test"], max_running=most), by="ada")


def lease_one(conn: Connection) -> None:
    lease(conn, room=1)


def beside(conn: Connection) -> None:
    lease_beside_limits(conn, worker_id="w", lanes=LANES, types=["test"], limit=9, lease_s=60)


def unlock(conn: Connection) -> None:
    text = str(one_row(conn.execute(FUNCTION))[0])
    assert LOCK in text
    conn.execute(text.replace(LOCK, "it.name = p_name;").encode())


def running(conn: Connection) -> int:
    return int(one_row(conn.execute(RUNNING))[0])


def beyond_a_lower_limit(conn: Connection, url: str) -> bool:
    """Tell whether a look that comes after a change leases as before it."""
    is_changed: list[bool] = []
    before: list[bool] = []

    def look(one: Connection) -> None:
        before.append(not is_changed)
        lease_one(one)

    def commit_the_change(one: Connection) -> None:
        commit(one)
        is_changed.append(True)

    change: Sequence[Step] = [begun(partial(set_most, most=1)), commit_the_change]
    scripts: Sequence[Sequence[Step]] = [[begun(look), commit], [begun(look), commit], change]
    with actors(url, 3) as cast:
        for order in schedules([2, 2, 2]):
            conn.execute(EMPTY)
            is_changed.clear()
            before.clear()
            with conn.transaction():
                set_most(conn, 3)
            for _ in range(4):
                make_job(conn, limited_by="few", limited_key="a", priority=6)
            play(order, cast, scripts)
            if running(conn) > max(1, sum(before)):
                return True
    return False


@pytest.mark.parametrize("locked", [True, False], ids=["with the lock", "without"])
def test_a_look_behind_the_change_of_a_limit_obeys_it(database_url: str, conn: Connection, *, locked: bool) -> None:
    if not locked:
        unlock(conn)
    assert beyond_a_lower_limit(conn, database_url) is not locked


def beyond_the_limit_after_meeting_jobs(conn: Connection, url: str) -> bool:
    """Tell whether two daemons start too many of the jobs that they meet and put under their limit."""
    script: Sequence[Step] = [begun(beside), commit, begun(lease_one), commit]
    with actors(url, 2) as cast:
        for order in schedules([4, 4]):
            conn.execute(EMPTY)
            with conn.transaction():
                set_most(conn, 1)
            for _ in range(3):
                make_job(conn)
            play(order, cast, [script, script])
            if running(conn) > 1:
                return True
    return False


@pytest.mark.parametrize("locked", [True, False], ids=["with the lock", "without"])
def test_daemons_that_meet_the_jobs_of_a_limit_exceed_it_in_no_interleaving(
    database_url: str, conn: Connection, *, locked: bool
) -> None:
    if not locked:
        unlock(conn)
    assert beyond_the_limit_after_meeting_jobs(conn, database_url) is not locked


def miscounted(conn: Connection, url: str, statement: LiteralString) -> bool:
    """Tell whether a job that runs, and is put under its limit beside a look, is not counted afterwards."""
    with actors(url, 2) as cast:
        for order in schedules([2, 2]):
            conn.execute(EMPTY)
            with conn.transaction():
                set_most(conn, 1)
            job_id = make_job(conn)
            lease_jobs(conn, worker_id="w", lanes=LANES, types=["test"], limit=1, lease_s=60)
            conn.execute(SPEND, (2000,))

            def put(one: Connection, job_id: str = job_id) -> None:
                one.execute(statement, {"ids": plain_array([job_id])})

            play(order, cast, [[begun(lease_one), commit], [begun(put), commit]])
            put(conn)  # a daemon does so until nothing runs beside: a look may have held the limit
            make_job(conn, limited_by="few", limited_key="a", priority=6)
            if lease(conn):
                return True
    return False


@pytest.mark.parametrize("marks", [True, False], ids=["marked", "not marked"])
def test_what_runs_and_is_put_under_a_limit_beside_a_look_counts(
    database_url: str, conn: Connection, *, marks: bool
) -> None:
    broken = PUT_UNDER.replace("UPDATE _ayb_job_limits SET running_from = 0\n        WHERE name", NO_MARK)
    assert "WHERE false" in broken
    assert miscounted(conn, database_url, PUT_UNDER if marks else broken) is not marks
