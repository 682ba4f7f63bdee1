"""Those share the places of a limit that could start more under it; nobody keeps a place from others for nothing."""

import time
from collections.abc import Sequence
from typing import Any

import pytest

from ayb_jobs.model.daemons import DaemonRecord
from ayb_jobs.model.job import LeasedJob
from ayb_jobs.model.lifecycle import settle_result
from ayb_jobs.model.limits import NewLimit
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet import limits
from ayb_jobs.storage.fleet.daemons import beat
from ayb_jobs.storage.queue.limited import Limited, lease_limited
from ayb_jobs.storage.queue.settling import settle_jobs
from ayb_jobs.storage.rows import one_row
from tests.eventually import eventually
from tests.factories import make_job

SHARERS = "SELECT sharers FROM _ayb_job_limits"
# As if so many seconds had gone by.
LATER = """
    UPDATE _ayb_job_limits SET
        sharers_seen = ARRAY(SELECT it - %(s)s * interval '1 second' FROM unnest(sharers_seen) AS it),
        sharers_called = ARRAY(SELECT it - %(s)s * interval '1 second' FROM unnest(sharers_called) AS it)
"""


@pytest.fixture
def few(conn: Connection) -> Connection:
    """Make a limit of eight, and forty jobs that wait under it."""
    with conn.transaction():
        limits.set_limit(conn, NewLimit(name="few", types=["test", "other"], max_running=8), by="ada")
    for _ in range(40):
        make_job(conn, limited_by="few", limited_key="a", priority=6)
    return conn


def alive(conn: Connection, *workers: str) -> None:
    for worker in workers:
        record = DaemonRecord(
            id=worker, host="h", pid=1, version="1", concurrency=1, queues=["default"], types=["test"]
        )
        beat(conn, record)


def look(conn: Connection, worker: str, room: int = 20, job_type: str = "test", *, quick: bool = False) -> Limited:
    given: dict[str, Any] = {"queues": ["default"], "worker_id": worker, "lease_s": 60, "quick": quick}
    return lease_limited(conn, "few", room=room, types=[job_type], **given)


def lease(conn: Connection, worker: str, room: int = 20) -> list[LeasedJob]:
    return look(conn, worker, room).leased


def settle(conn: Connection, jobs: Sequence[LeasedJob]) -> None:
    now = time.monotonic()
    settle_jobs(conn, [settle_result(job, None, now, now) for job in jobs], worker_id="w", now=now)


def sharers(conn: Connection) -> list[str]:
    return list(one_row(conn.execute(SHARERS))[0])


def test_who_settles_leaves_others_their_part(few: Connection) -> None:
    first = lease(few, "a")
    found = look(few, "b")
    assert (len(first), found.leased) == (8, [])
    assert found.wait_s is not None
    assert 0 < found.wait_s < 0.1  # it looks again soon
    settle(few, first[:6])
    assert len(lease(few, "a")) == 2
    assert len(lease(few, "b")) == 4
    assert look(few, "b").wait_s is None


def test_what_others_run_who_want_no_more_is_nobodys_part(few: Connection) -> None:
    own = lease(few, "a", room=4)  # as much as it has room for
    rest = lease(few, "b")
    assert (len(own), len(rest), sharers(few)) == (4, 4, ["b"])
    assert lease(few, "c") == []
    settle(few, rest)
    assert (len(lease(few, "b")), len(lease(few, "c"))) == (2, 2)


def test_alone_it_takes_all_again_and_again(few: Connection) -> None:
    for _ in range(3):
        jobs = lease(few, "a")
        assert len(jobs) == 8
        settle(few, jobs)
    assert sharers(few) == ["a"]


def test_who_finds_nothing_to_start_shares_no_more(few: Connection) -> None:
    jobs = lease(few, "a")
    assert look(few, "b", job_type="other").leased == []
    settle(few, jobs)
    assert len(lease(few, "a")) == 4
    assert look(few, "b", job_type="other").leased == []
    assert sharers(few) == ["a"]
    assert len(lease(few, "a")) == 4


def test_who_leaves_a_place_unused_for_longer_than_a_sweep_shares_no_more(few: Connection) -> None:
    jobs = lease(few, "a")
    assert lease(few, "b") == []
    alive(few, "b")
    few.execute(LATER, {"s": 3600})  # it may wait for as long as no place is left to it, and it lives
    settle(few, jobs)
    assert len(lease(few, "a")) == 4
    few.execute(LATER, {"s": 0.5})
    assert lease(few, "a") == []
    few.execute(LATER, {"s": 1.0})
    assert len(lease(few, "a")) == 4


def test_a_look_for_no_type_of_a_limit_changes_nothing_of_who_shares_it(few: Connection) -> None:
    jobs = lease(few, "a")
    assert look(few, "z", job_type="strange").leased == []
    assert lease(few, "b") == []
    assert look(few, "a", job_type="strange").leased == []
    assert sharers(few) == ["a", "b"]
    settle(few, jobs)
    assert (len(lease(few, "b")), len(lease(few, "a"))) == (4, 4)


def test_daemons_that_are_gone_share_no_more_though_no_place_was_left_to_them(conn: Connection) -> None:
    with conn.transaction():
        limits.set_limit(conn, NewLimit(name="few", types=["test"], max_running=1), by="ada")
    for _ in range(20):
        make_job(conn, limited_by="few", limited_key="a", priority=6)
    for start in range(10):
        for daemon in range(3):
            settle(conn, lease(conn, f"{daemon} of start {start}"))
        conn.execute(LATER, {"s": 11})
    assert len(sharers(conn)) <= 3


def test_who_comes_after_it_was_called_goes_on_sharing(few: Connection) -> None:
    jobs = lease(few, "a")
    assert lease(few, "b") == []
    few.execute(LATER, {"s": 5})
    settle(few, jobs)
    assert len(lease(few, "a")) == 4
    few.execute(LATER, {"s": 0.5})
    assert len(lease(few, "b")) == 4
    few.execute(LATER, {"s": 3600})
    assert lease(few, "a") == []
    assert sharers(few) == ["a", "b"]


def test_a_place_that_another_took_first_costs_nobody_its_part(few: Connection) -> None:
    jobs = lease(few, "a")
    assert lease(few, "b") == lease(few, "c") == []
    alive(few, "b", "c")
    few.execute(LATER, {"s": 5})
    settle(few, jobs[:1])
    assert lease(few, "a") == []  # so that both are called
    assert len(lease(few, "c")) == 1
    few.execute(LATER, {"s": 5})
    settle(few, jobs[1:])
    assert (len(lease(few, "a")), len(lease(few, "c")), len(lease(few, "b"))) == (3, 2, 2)


def test_short_jobs_have_all_places_in_turn(few: Connection) -> None:
    """A part of the places would cost more than what runs there."""
    held = lease(few, "a")
    assert lease(few, "b") == []
    settle(few, held)
    waiting = {"a", "b"}

    def had_turns() -> bool:
        for worker in sorted(waiting):
            found = look(few, worker, quick=True)
            settle(few, found.leased)
            if found.leased:
                assert len(found.leased) == 8
                waiting.discard(worker)
            else:
                assert found.wait_s is not None
                assert 0 < found.wait_s <= 0.1
        return not waiting

    eventually(had_turns)


def test_who_takes_turns_with_nobody_waits_for_nobody(few: Connection) -> None:
    held = lease(few, "a")
    lease(few, "b")
    settle(few, held)
    few.execute(LATER, {"s": 3})
    assert len(look(few, "a", quick=True).leased) == 4
