"""Ten thousand keys under one limit share it alike, and so do two of which one has all the jobs."""

from collections import Counter
from collections.abc import Iterator
from statistics import median

import pytest

from ayb_jobs.lab.bench.idle import cpu_seconds
from ayb_jobs.storage.database import Connection
from tests.storage.queue.test_limited import keys_of, limit, make_jobs, under
from tests.storage.queue.test_limited_pinned import first_and_last, first_and_last_pages

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

KEYS, EACH, PLACES = 10_000, 3, 100
LOAD = """
    INSERT INTO _ayb_jobs (type, limit_key)
    SELECT 'test', 'key ' || key FROM generate_series(1, %s) AS key CROSS JOIN generate_series(1, %s)
"""
PUT_UNDER = """
    SELECT _ayb_job_put_under(ARRAY(SELECT id FROM _ayb_jobs WHERE limited_by IS NULL LIMIT 10000))
"""
LEFT = "SELECT EXISTS (SELECT FROM _ayb_jobs WHERE limited_by IS NULL)"
COMPLETE = "UPDATE _ayb_jobs SET state = 'completed', lease_id = NULL, lease_until = NULL WHERE state = 'running'"


def put_all_under(conn: Connection) -> None:
    while conn.execute(LEFT).fetchone() == (True,):
        conn.execute(PUT_UNDER)
    conn.execute("ANALYZE _ayb_jobs")


def served(conn: Connection, *, room: int) -> Iterator[list[str]]:
    """Lease and complete until nothing is left; yield the keys of each batch."""
    after = ""
    while True:
        found = under(conn, room=room, after=after)
        if not found.leased:
            return
        after = found.after
        yield keys_of(conn, found)
        conn.execute(COMPLETE)


def test_ten_thousand_keys_share_a_limit_alike(conn: Connection) -> None:
    limit(conn, max_running=PLACES, key_max_running=2)
    conn.execute(LOAD, (KEYS, EACH))
    put_all_under(conn)
    seen: Counter[str] = Counter()
    furthest = 0
    for keys in served(conn, room=PLACES):
        seen.update(keys)
        rounds = sum(seen.values()) / KEYS
        furthest = max(furthest, round(max(seen.values()) - rounds))
        if sum(seen.values()) == KEYS:
            assert len(seen) >= KEYS * 0.95
    assert set(seen.values()) == {EACH}
    assert len(seen) == KEYS
    assert furthest <= 1


def test_two_keys_share_ten_thousand_starts_within_five_percent(conn: Connection) -> None:
    limit(conn, max_running=7)
    make_jobs(conn, "large", 10_000)
    make_jobs(conn, "small", 5_000)
    put_all_under(conn)
    seen: Counter[str] = Counter()
    for keys in served(conn, room=20):
        assert {keys.count("large"), keys.count("small")} == {3, 4}
        seen.update(keys)
        if sum(seen.values()) >= 9_000:
            break
    assert abs(seen["large"] - seen["small"]) <= 0.05 * sum(seen.values())


def test_an_old_transaction_does_not_slow_the_looks_under_a_limit(database_url: str, conn: Connection) -> None:
    """It keeps what is dead in the indexes. Pages, since the machine may be busy; of a look from the bottom, too."""
    first, last = first_and_last_pages(conn, database_url, keys=10, jobs=100_000)
    assert median(last) <= 1.25 * median(first)
    assert sum(last) <= 3 * sum(first)


def test_an_old_transaction_hardly_slows_looks_at_a_thousand_keys(database_url: str, conn: Connection) -> None:
    """A floor is gone before its key is met again, so a look walks what has ended of its keys, forty jobs of each."""
    first, last = first_and_last(conn, database_url, lambda: cpu_seconds(conn.info.backend_pid), keys=1000, jobs=40_000)
    assert sum(last) <= 1.5 * sum(first)
