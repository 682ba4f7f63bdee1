"""Under a limit no look walks what is dead, and yet it counts all that runs, and hides nothing for long."""

import math
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import pytest

from ayb_jobs.lab.bench.pinned import old_transaction
from ayb_jobs.runtime.jobs import key_floors
from ayb_jobs.runtime.jobs.key_floors import LONGEST_S, MOST, WORTH_IT, KeyFloors
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue.put_under import put_under
from ayb_jobs.storage.rows import one_row
from tests.factories import make_job
from tests.storage.queue.test_limited import count, limit, under

LOAD = """
    INSERT INTO _ayb_jobs (type, priority, limited_by, limited_key)
    SELECT 'test', 6, 'few', 'key ' || number %% %s FROM generate_series(1, %s) AS number
"""
LOAD_KEY = """
    INSERT INTO _ayb_jobs (type, priority, limited_by, limited_key)
    SELECT 'test', 6, 'few', %s FROM generate_series(1, %s)
"""
COMPLETE = "UPDATE _ayb_jobs SET state = 'completed', lease_id = NULL, lease_until = NULL WHERE state = 'running'"
COMPLETE_THESE = (
    "UPDATE _ayb_jobs SET state = 'completed', lease_id = NULL, lease_until = NULL WHERE id = ANY (%s::uuid[])"
)
PAGES = """
    SELECT heap_blks_read + heap_blks_hit + idx_blks_read + idx_blks_hit FROM pg_statio_all_tables WHERE relname = '_ayb_jobs'
"""
MARK = "SELECT running_from FROM _ayb_job_limits"
SPEND = "SELECT setval('_ayb_job_execution_ids', nextval('_ayb_job_execution_ids') + %s)"


def make_limited(conn: Connection, key: str = "a", **given: Any) -> str:
    columns: dict[str, Any] = {"limited_by": "few", "limited_key": key, "priority": 6} | given
    return make_job(conn, **columns)


def pages(conn: Connection) -> int:
    """Return how many pages of the table of jobs and of its indexes were touched so far."""
    conn.execute("SELECT pg_stat_force_next_flush()")
    return int(one_row(conn.execute(PAGES))[0])


def first_and_last_pages(conn: Connection, url: str, *, keys: int, jobs: int) -> tuple[list[float], list[float]]:
    """Lease all beside an old transaction; return the pages of each look of the first fifth, and of the last."""
    return first_and_last(conn, url, lambda: pages(conn), keys=keys, jobs=jobs)


def first_and_last(
    conn: Connection, url: str, spent: Callable[[], float], *, keys: int, jobs: int
) -> tuple[list[float], list[float]]:
    """Lease all beside an old transaction; return what each look of the first fifth has spent, and of the last."""
    limit(conn, key_max_running=50)
    conn.execute(LOAD, (keys, jobs))
    conn.execute("ALTER TABLE _ayb_jobs SET (autovacuum_enabled = false)")
    conn.execute("VACUUM (ANALYZE) _ayb_jobs")
    floors, after, looks = KeyFloors(), "", jobs // 50
    cost: list[float] = []
    with old_transaction(url, pin=True):
        while len(cost) < looks:
            before, began = spent(), time.monotonic()
            found = under(conn, room=50, after=after, floors=floors.now())
            floors.looked(found, time.monotonic() - began)
            cost.append(spent() - before)
            assert len(found.leased) == 50
            after = found.after
            conn.execute(COMPLETE_THESE, ([job.id for job in found.leased],))
    return cost[: looks // 5], cost[-looks // 5 :]


def test_a_look_walks_neither_dead_jobs_of_its_keys_nor_dead_runs(database_url: str, conn: Connection) -> None:
    first, last = first_and_last_pages(conn, database_url, keys=4, jobs=6000)
    assert median(last) <= 1.25 * median(first)


def raise_mark(conn: Connection) -> int:
    """Have a look see that nothing runs, many attempts later; return from which attempt on is counted."""
    conn.execute(SPEND, (2000,))
    under(conn)
    mark = int(one_row(conn.execute(MARK))[0])
    assert mark > 2000
    return mark


def test_what_runs_longest_counts_whatever_has_run_since(conn: Connection) -> None:
    limit(conn, max_running=2)
    first, longest = make_limited(conn), make_limited(conn)
    assert [job.id for job in under(conn, room=1).leased] == [first]
    conn.execute(SPEND, (2000,))
    number = under(conn).leased[0].execution_id
    conn.execute(COMPLETE_THESE, ([first],))
    for _ in range(3):
        conn.execute(SPEND, (2000,))
        make_limited(conn)
        make_limited(conn)
        (job,) = under(conn).leased
        assert conn.execute(MARK).fetchone() == (number,)
        conn.execute(COMPLETE_THESE, ([job.id],))
    assert count(conn, "state = 'running'") == 1
    conn.execute(COMPLETE_THESE, ([longest],))
    assert len(under(conn).leased) == 2


def test_what_runs_already_and_is_put_under_a_limit_counts(conn: Connection) -> None:
    limit(conn, max_running=1)
    raise_mark(conn)
    put_under(conn, [make_job(conn, "running", execution_id=1)])
    waiting = make_job(conn)
    put_under(conn, [waiting])
    raised = [under(conn).leased for _ in range(2)]
    assert raised == [[], []]
    conn.execute(COMPLETE)
    assert [job.id for job in under(conn).leased] == [waiting]


def test_a_running_job_without_a_number_counts(conn: Connection) -> None:
    limit(conn, max_running=1)
    raise_mark(conn)
    make_limited(conn, state="running", execution_id=None)
    make_limited(conn)
    assert count(conn, "state = 'running' AND execution_id IS NULL") == 1
    conn.execute(SPEND, (2000,))
    assert under(conn).leased == []
    conn.execute("UPDATE _ayb_jobs SET execution_id = nextval('_ayb_job_execution_ids') WHERE state = 'running'")
    assert under(conn).leased == []


def test_numbers_that_were_set_back_leave_no_run_uncounted(conn: Connection) -> None:
    limit(conn, max_running=1)
    raise_mark(conn)
    conn.execute("SELECT setval('_ayb_job_execution_ids', 1)")
    for _ in range(2):
        make_limited(conn)
    assert [len(under(conn).leased) for _ in range(3)] == [1, 0, 0]


class Clock:
    """The time for floors, in seconds."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(key_floors, "time", clock)
    return clock


def looked(conn: Connection, floors: KeyFloors, cost_s: float = 0.05) -> set[str]:
    """Look with these floors; return the ids of what was leased."""
    found = under(conn, floors=floors.now())
    floors.looked(found, cost_s)
    return {job.id for job in found.leased}


LONG_AGO = "2020-01-01 00:00:00+00"


def test_a_floor_hides_what_is_below_it_no_longer_than_twenty_looks(conn: Connection, clock: Clock) -> None:
    """Whether its key is served all the time, or has nothing else."""
    limit(conn, key_max_running=1000)
    for key in "ab":
        conn.execute(LOAD_KEY, (key, WORTH_IT))
    floors = KeyFloors()
    assert floors.wait_s() == math.inf
    assert len(looked(conn, floors)) == 2 * WORTH_IT
    hidden = {make_limited(conn, key, run_at=LONG_AGO) for key in "ab"}
    for _ in range(19):
        assert not hidden & looked(conn, floors)
        assert floors.wait_s() == pytest.approx(0.95 - clock.now)
        served = make_limited(conn)
        assert looked(conn, floors) == {served}
        clock.now += 0.05
    clock.now = 0.951
    assert looked(conn, floors) == hidden


def test_a_floor_hides_no_job_of_a_higher_priority(conn: Connection, clock: Clock) -> None:
    limit(conn, key_max_running=1000)
    conn.execute(LOAD_KEY, ("a", WORTH_IT))
    floors = KeyFloors()
    looked(conn, floors)
    urgent = make_limited(conn, priority=5, run_at=LONG_AGO)
    usual = make_limited(conn, run_at=LONG_AGO)
    assert looked(conn, floors) == {urgent}
    clock.now = 1.0
    assert looked(conn, floors) == {usual}


def test_a_floor_lasts_for_a_second_at_most(conn: Connection, clock: Clock) -> None:
    limit(conn, key_max_running=1000)
    conn.execute(LOAD_KEY, ("a", WORTH_IT))
    floors = KeyFloors()
    looked(conn, floors, cost_s=60.0)
    assert list(floors.now()) == ["a"]
    assert floors.wait_s() == LONGEST_S


def test_a_key_of_few_jobs_has_no_floor(conn: Connection, clock: Clock) -> None:
    limit(conn, key_max_running=1000)
    conn.execute(LOAD_KEY, ("a", WORTH_IT - 1))
    floors = KeyFloors()
    looked(conn, floors)
    assert floors.now() == {}
    assert looked(conn, floors) | {make_limited(conn, run_at=LONG_AGO)} == looked(conn, floors)


def test_only_so_many_floors_are_sent_those_that_are_needed_next_first(conn: Connection, clock: Clock) -> None:
    limit(conn, key_max_running=1000)
    conn.execute(LOAD, (MOST + 1, (MOST + 1) * WORTH_IT))
    floors = KeyFloors()
    while looked(conn, floors):
        pass
    first = next(iter(floors.now()))
    assert len(floors.now()) == MOST
    make_limited(conn, first)
    looked(conn, floors)
    assert first not in floors.now()
