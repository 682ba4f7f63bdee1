"""What daemons and pages ask about due jobs costs the same, however many jobs are due later."""

import re
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

import pytest

from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.fleet import pausable, unclaimable
from ayb_jobs.storage.queue import lateness, minutes
from ayb_jobs.storage.throwaway import Databases

DUE_LATER = """
    INSERT INTO _ayb_jobs (type, queue, priority, run_at)
    SELECT 'test', 'queue ' || number % 3, 1 + number % 4, now() + interval '1 day'
    FROM generate_series(1, 20000) AS number
"""
LISTED = {"alive_s": 60, "only": None, "most": 1000, "counted": 10_000, "lanes": 1000}
STATEMENTS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "a daemon's look": (unclaimable.COUNT_UNCLAIMABLE, {"types": ["test"], "queues": ["default"], "look": 10_000}),
    "everybody's look": (
        unclaimable.COUNT_UNCLAIMABLE_BY_ALL,
        {"look": 10_000, "lanes": 1000, "named": 50, "alive_s": 60},
    ),
    "the longest wait": (lateness.FIND_LONGEST, {"alive_s": 60}),
    "paused jobs": (lateness.LIST_PAUSED_JOBS, {"most": 100}),
    "types": (pausable.LIST_TYPES, LISTED),
    "queues": (pausable.LIST_QUEUES, LISTED),
    "the level": (minutes.MEASURE_LEVEL, {"most": 10_000, "lanes": 1000}),
}


@pytest.fixture(scope="module")
def later(databases: Databases) -> Iterator[Connection]:
    """A connection to a database with many jobs that are due later, for tests that change nothing."""
    with databases.migrated() as url, closing(connect(url)) as conn:
        conn.execute(DUE_LATER)
        conn.execute("ANALYZE _ayb_jobs")
        yield conn


@pytest.mark.parametrize("name", STATEMENTS)
def test_jobs_that_are_due_later_are_not_walked(later: Connection, name: str) -> None:
    statement, values = STATEMENTS[name]
    found = later.execute(f"EXPLAIN {statement}", values or None, prepare=False)
    plan = [row[0] for row in found]
    walks = [line for line in plan if "Cond:" in line and re.search(r"run_at <= now\(\)", line)]
    assert walks  # by the index, not by a filter
    assert all(re.search(r"queue\)?(::text)? = .*priority = ", line) for line in walks), "\n".join(plan)
    assert not [line for line in plan if "Seq Scan on _ayb_jobs" in line]


def test_due_jobs_behind_those_that_are_due_later_are_counted(conn: Connection) -> None:
    conn.execute(DUE_LATER)
    conn.execute(
        "INSERT INTO _ayb_jobs (type, queue, priority) VALUES"
        " ('known', 'queue 2', 4), ('known', 'other', 1), ('strange', 'queue 0', 3), ('strange', 'other', 4)"
    )
    found = unclaimable.count_unclaimable(conn, types=["known"], queues=["queue 2"])
    assert found == unclaimable.Unclaimable(types={"strange": 2}, queues={"other": 1})
    assert unclaimable.unclaimable_jobs(conn).by_type == {"known": 2, "strange": 2}
