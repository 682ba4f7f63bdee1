"""Plain jobs pay nothing for what others use: no table but the queue and its log is read for each of them."""

import pytest

from ayb_jobs.runtime.jobs import room
from ayb_jobs.storage.database import Connection
from tests.daemon.test_daemon import registry_of
from tests.eventually import eventually
from tests.running import running

JOBS = 4000
# One look for each leased batch is cheap; one for each job is not.
MOST_LOOKS = JOBS // 8
MAKE = "INSERT INTO _ayb_jobs (type) SELECT 'test' FROM generate_series(1, %s)"
LEFT = "SELECT count(*) FROM _ayb_jobs WHERE state <> 'completed'"
# As a disk does that is slower than the handlers.
SETTLE_SLOWLY = """
    CREATE FUNCTION settle_slowly() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.002); RETURN NEW; END';
    CREATE TRIGGER slowly BEFORE UPDATE ON _ayb_jobs FOR EACH ROW WHEN (NEW.state = 'completed')
        EXECUTE FUNCTION settle_slowly();
"""
LOOKS = """
    SELECT relname::text, coalesce(seq_scan, 0) + coalesce(idx_scan, 0)
    FROM pg_stat_user_tables
    WHERE relname NOT IN ('_ayb_jobs', '_ayb_job_executions')
"""


def test_a_drain_reads_no_other_table_for_each_job(database_url: str, conn: Connection) -> None:
    conn.execute(MAKE, (JOBS,))
    with running(database_url, registry_of(lambda _: None)):
        eventually(lambda: conn.execute(LEFT).fetchone() == (0,), within_s=60)
    looks: dict[str, int] = dict(conn.execute(LOOKS).fetchall())
    assert looks["_ayb_job_workers"], "the server counts"
    assert {table: count for table, count in looks.items() if count > MOST_LOOKS} == {}


def test_endings_that_wait_for_the_database_hold_leasing_back_until_they_are_written(
    database_url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "MOST_AHEAD", 50)
    monkeypatch.setattr(room, "MOST_UNSETTLED", 0)
    conn.execute(SETTLE_SLOWLY)
    conn.execute(MAKE, (600,))
    with running(database_url, registry_of(lambda _: None), poll_interval_ms=60_000):
        eventually(lambda: conn.execute(LEFT).fetchone() == (0,), within_s=20)
