"""Ten thousand keys under one limit share it alike, and so do two of which one has all the jobs."""

from collections import Counter
from collections.abc import Iterator
from itertools import islice

import pytest

from ayb_jobs.lab.bench.idle import cpu_seconds
from ayb_jobs.lab.bench.pinned import old_transaction
from ayb_jobs.storage.database import Connection
from tests.storage.queue.test_limited import keys_of, limit, make_jobs, under

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


def test_an_old_transaction_slows_a_limit_as_is_said_and_no_more(database_url: str, conn: Connection) -> None:
    """It keeps what is dead in the indexes, which each look walks. CPU, since the machine may be busy."""
    limit(conn, key_max_running=4)
    conn.execute(
        "INSERT INTO _ayb_jobs (type, priority, limited_by, limited_key)"
        " SELECT 'test', 6, 'few', 'key ' || number % 1000 FROM generate_series(1, 300000) AS number"
    )
    conn.execute("VACUUM (ANALYZE) _ayb_jobs")
    with old_transaction(database_url, pin=True):
        batches = served(conn, room=50)
        fifths = [cpu_of(conn, islice(batches, 160)) for _ in range(5)]
    assert fifths[-1] <= 4 * fifths[0]


def cpu_of(conn: Connection, batches: Iterator[list[str]]) -> float:
    """Return the CPU seconds of the server's process for 8,000 jobs."""
    before = cpu_seconds(conn.info.backend_pid)
    assert sum(map(len, batches)) == 8000
    return cpu_seconds(conn.info.backend_pid) - before
