"""Lists for people who look for jobs: each filter, each page once, and what they read is bounded."""

from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest
from psycopg import sql

from ayb_jobs.model.filters import Filter
from ayb_jobs.model.job import JobState
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue import browsing
from ayb_jobs.storage.queue.browsing import Counts, Page, Shown, browse_jobs, count_shown
from ayb_jobs.storage.queue.failures import group_failures
from ayb_jobs.storage.queue.minutes import measure_level
from ayb_jobs.storage.queue.queues import list_queues, list_running
from tests.factories import make_job

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def walk(conn: Connection, shown: Shown, wanted: Filter, **options: Any) -> list[str]:
    """Return the ids on all pages."""
    ids: list[str] = []
    page = browse_jobs(conn, shown, wanted, **options)
    while True:
        ids += [job.id for job in page.jobs]
        if page.next is None:
            return ids
        page = browse_jobs(conn, shown, wanted, after=page.next, **options)


def test_pages_hold_each_job_once_in_the_order_of_the_list(conn: Connection) -> None:
    newest = [
        make_job(conn, state, created_at=NOON + number * MINUTE, run_at=NOON + number * MINUTE)
        for number, state in enumerate(["queued", "running", "failed", "completed", "canceled", "running", "queued"])
    ][::-1]
    later = [make_job(conn, created_at=NOON, run_at=sql.SQL(f"now() + {n} * interval '1 hour'")) for n in (1, 2)]
    ended = walk(conn, Shown.ALL, Filter(since=NOON + MINUTE), limit=2)
    assert ended == newest[:-1]
    assert walk(conn, Shown.RUNNING, Filter(), limit=1) == [newest[1], newest[5]]
    assert walk(conn, Shown.FAILED, Filter(), limit=1) == [newest[4]]
    assert walk(conn, Shown.WAITING, Filter(), limit=1) == [newest[6], newest[0]]
    assert walk(conn, Shown.LATER, Filter(), limit=1) == later
    assert count_shown(conn) == Counts(waiting=2, later=2, running=2, failed=1, canceled=1, completed=1, cut=False)
    assert count_shown(conn, most=1) == Counts(
        waiting=1, later=1, running=1, failed=1, canceled=1, completed=1, cut=False
    )


@pytest.mark.parametrize("shown", [Shown.WAITING, Shown.ALL])
def test_a_page_tells_where_to_look_further_if_its_bound_ended_it(conn: Connection, shown: Shown) -> None:
    for number in range(10):
        make_job(
            conn, type="rare" if number in {0, 9} else "common", created_at=NOON, queue=f"q{number % 3}", priority=2
        )
    first = browse_jobs(conn, shown, Filter(type="rare"), limit=1, look=4)
    assert first.looked or first.jobs
    assert len(walk(conn, shown, Filter(type="rare"), limit=1, look=4)) == 2
    assert browse_jobs(conn, shown, Filter(type="none"), limit=1, look=100) == Page([], None, looked=False)


# PostgreSQL takes them all, and `datetime` holds none.
ENDS_OF_TIME = ["-infinity", "4713-01-01 BC", "0044-03-15 BC", "20000-01-01", "294276-12-31", "infinity"]


def test_a_job_is_listed_wherever_it_is_counted_whatever_its_instants(conn: Connection) -> None:
    for at, state, _ in product(ENDS_OF_TIME, JobState, range(2)):
        make_job(conn, state, created_at=at, run_at=at)
    counts = count_shown(conn)
    figures: dict[str, int] = {shown: getattr(counts, shown) for shown in Shown if shown is not Shown.ALL}
    listed = {shown: walk(conn, shown, Filter(), limit=1) for shown in Shown}
    assert {shown: len(set(ids)) for shown, ids in listed.items()} == {**figures, "all": 60}
    assert {shown: len(ids) for shown, ids in listed.items()} == {**figures, "all": 60}
    assert (counts.waiting, counts.later) == (6, 6)
    assert len(walk(conn, Shown.WAITING, Filter(), limit=1, look=2)) == 6


def test_a_list_takes_every_filter(conn: Connection) -> None:
    meant = make_job(conn, "failed", type="a", queue="q", idempotency_key="k", last_error="Oh: 1\n2", created_at=NOON)
    make_job(conn, "failed")
    for wanted in (
        Filter(type="a"),
        Filter(queue="q"),
        Filter(key="k"),
        Filter(error="oh"),
        Filter(until=NOON + MINUTE),
    ):
        (found,) = browse_jobs(conn, Shown.FAILED, wanted).jobs
        assert (found.id, found.error) == (meant, "Oh: 1")


def test_failures_are_grouped_by_what_differs_in_numbers_alone(conn: Connection) -> None:
    for number in range(3):
        make_job(conn, "failed", type="a", last_error=f"OSError: {number} of 0x{number}f\nframe {number}")
    make_job(conn, "failed", type="a", last_error="OSError: all")
    make_job(conn, "failed", type="b", last_error="OSError: 1 of 0x1f", updated_at="2020-01-01T00:00:00Z")
    make_job(conn, "failed", type="c", last_error=None)
    groups = group_failures(conn, Filter(), span=timedelta(hours=1)).groups
    assert [(each.type, each.error, each.jobs) for each in groups] == [
        ("a", "OSError: <n> of <n>", 3), ("a", "OSError: all", 1), ("c", "", 1),
    ]  # fmt: skip
    assert groups[0].buckets[-1] == 3
    assert {each.type for each in group_failures(conn, Filter(), span=None).groups} == {"a", "b", "c"}
    assert [each.jobs for each in group_failures(conn, Filter(alike=groups[0].error, type="a"), span=None).groups] == [
        3
    ]
    assert [each.jobs for each in group_failures(conn, Filter(), span=None, look=1).groups] == [1]


def test_queues_tell_what_waits_and_runs(conn: Connection) -> None:
    make_job(conn, queue="a", run_at=sql.SQL("now() - interval '1 hour'"))
    make_job(conn, queue="a", priority=1)
    make_job(conn, queue="b", run_at=sql.SQL("now() + interval '1 hour'"))
    make_job(conn, "running", queue="c", progress={"percent": 5})
    found = {each.queue: each for each in list_queues(conn, served=["d"]).first}
    assert {name: (each.waiting, each.later, each.running) for name, each in found.items()} == {
        "a": (2, False, 0), "b": (0, True, 0), "c": (0, False, 1), "d": (0, False, 0),
    }  # fmt: skip
    assert (found["a"].oldest_wait_s or 0) >= 3600
    assert found["b"].oldest_wait_s is None
    (running,) = list_running(conn, limit=10)
    assert running.progress_text == '{"percent": 5}'


def test_what_is_counted_tells_whether_anything_was_left_out(conn: Connection) -> None:
    for number in range(3):
        make_job(conn, queue=f"q{number}", run_at=sql.SQL(f"now() - interval '{number + 1} hours'"))
    for lanes, waiting in ((3, 3), (2, 2)):
        counts, level = count_shown(conn, lanes=lanes), measure_level(conn, lanes=lanes)
        assert (counts.waiting, counts.cut) == (level.waiting, level.cut) == (waiting, lanes < 3)
    assert measure_level(conn, most=1).oldest_wait_s >= 3 * 3600
    assert [list_queues(conn, served=["r"], most=most).more for most in (3, 4)] == [True, False]
    for number in range(4):
        make_job(conn, "failed", type=f"t{number % 2}", last_error="no")
    bounded: list[tuple[dict[str, int], int, bool]] = [({}, 4, False), ({"limit": 1}, 4, False), ({"look": 3}, 3, True)]
    for bounds, jobs, cut in bounded:
        found = group_failures(conn, Filter(), span=None, **bounds)
        assert (found.jobs, found.group_count, found.cut, sum(found.buckets)) == (jobs, 2, cut, jobs)
    nothing = group_failures(conn, Filter(type="none"), span=None)
    assert (nothing.groups, nothing.jobs, nothing.cut, sum(nothing.buckets)) == ([], 0, False, 0)


def test_a_list_by_due_time_tells_that_queues_are_left_out(conn: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        make_job(conn, queue=f"q{number}")
    for lanes in (2, 3):
        monkeypatch.setattr(browsing, "MOST_LANES", lanes)
        page = browse_jobs(conn, Shown.WAITING, Filter())
        assert (len(page.jobs), page.left_out) == (lanes, lanes < 3)
